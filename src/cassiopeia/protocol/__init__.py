"""The signer protocol, versions 1 and 2, without any I/O: octets in, events out."""
