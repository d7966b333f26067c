"""The signer client: takes jobs from the store to the signer and brings the answers back. It holds no CA key."""
