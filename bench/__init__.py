"""The tracked figures, each beside the machine's own raw rate measured in the same run: `make bench`."""
