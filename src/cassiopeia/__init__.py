"""Cassiopeia: a certificate authority whose keys live on a machine that nobody can reach."""

__version__ = "0.1.0"

RELEASE_YEAR = 2026
"""No clock that shows an earlier year can be right. Raise it with the first release of a year."""
