"""The journal: format and rules of its entries, hash tree, signed heads, replay. No file, no clock, no database."""
