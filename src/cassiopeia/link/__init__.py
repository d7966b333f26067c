"""Octet streams between signer and client (serial line, Unix socket, TCP) and the credentials that guard them."""
