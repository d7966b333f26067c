"""Cassiopeia: a certificate authority whose keys live on a machine that nobody can reach."""

__version__ = "0.1.0"
