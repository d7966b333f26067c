"""What the world asks of an authority, answered without any CA key: CRLs, CA certificates, OCSP."""
