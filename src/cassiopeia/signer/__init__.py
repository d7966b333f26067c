"""The signer: the one part that uses CA keys. It imports no web, store, client or validation code."""
