"""Making authorities offline: the hierarchy as data, keys, certificates and what each machine is given."""
