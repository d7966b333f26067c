"""The validator: signs what was seen, and vouches for the requests that wait, under each signer's nonce of the moment.

Runs on the database's side with a key of its own (Ed25519), which signers have pinned for kinds of statement. It holds
no key of a CA and speaks with no signer: it reads requests and signers' words from the store, and writes observations
and attestations there. It signs nothing that it did not see, or that a person or a script did not state to it.
"""
