"""The arithmetics by which RSA moduli are compared: every one that this machine has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from cassiopeia.core.shared_factors import PythonArithmetic
from cassiopeia.signer.gmp import GmpArithmetic

ARITHMETICS: Final[list[Callable[[], Any]]] = [PythonArithmetic, GmpArithmetic]
"""GMP needs Debian's libgmp10, which comes with GnuTLS: tests of both fail without it, and say so."""
