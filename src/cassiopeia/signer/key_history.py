"""What a signer holds against a public key because of other certificates: whose key it is, and which keys broke it.

Owns three rules. A key belongs to the account that it was certified for; whoever asks for it under another account
holds a key that somebody else has, too. An RSA key that shares a prime factor with any key seen before is worth
nothing, nor is the other one. And a key that has said itself that it is compromised gets no certificate any more.
Answers come from the journal's index and from the examiner; nothing here waits for either.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cassiopeia.core.key_identity import KeyIdentity, identify_certified_key
from cassiopeia.errors import Refused
from cassiopeia.signer.journal_index import Intent, JournalIndex

_log = logging.getLogger(__name__)

_MAXIMUM_EXPOSED: Final = 10_000
_MAXIMUM_ALARMS: Final = 10
_MAXIMUM_SERIALS: Final = 10


class KeyHistory:
    """`own` are the RSA moduli of the signer's sub-CAs, each with its sub-CA's name: keys seen before all others."""

    def __init__(self, index: JournalIndex, *, own: Mapping[bytes, str] | None = None) -> None:
        self._index = index
        self.follow(own or {})
        # By digest, in the order in which they were found: those that share a prime with each and matter to others.
        self._exposed: dict[bytes, frozenset[bytes]] = dict.fromkeys(index.exposed_keys(), frozenset())

    def follow(self, own: Mapping[bytes, str]) -> None:
        """These are the RSA moduli of the signer's sub-CAs from now on, each with its sub-CA's name."""
        self._own = {hashlib.sha256(modulus).digest(): name for modulus, name in own.items()}

    def needs_examination(self, key: KeyIdentity) -> bool:
        """Whether it must be compared with all others first. What was certified before was compared then."""
        return bool(key.modulus) and not self._index.knows_key(key.digest)

    def note(self, modulus: bytes, others: Sequence[bytes]) -> None:
        """Take the examiner's verdict: the moduli with which this one shares a factor."""
        if not others:
            return
        digests = [hashlib.sha256(each).digest() for each in (modulus, *others)]
        known = frozenset(each for each in digests if each in self._own or self._index.knows_key(each))
        for digest in digests:
            if digest not in self._exposed:
                self._forget_one()
                for sentence in self._harm(digest):
                    _log.error("%s", sentence)
            self._exposed[digest] = self._exposed.get(digest, frozenset()) | known

    def exposed_by(self, key: KeyIdentity) -> tuple[bytes, ...]:
        """The keys of certificates and sub-CAs that share a prime with this one, which the journal has to remember."""
        return tuple(sorted(self._exposed.get(key.digest, ())))

    def check(self, key: KeyIdentity, account: str) -> None:
        """Raise Refused for a key of another account, for one that anybody can compute, and for a compromised one."""
        if key.digest in self._exposed:
            raise Refused(
                "This RSA key has a prime factor in common with another key, so anybody who sees both can compute its"
                " private key. Make a new key, with another program or on another machine: its random numbers repeat.",
                code="key-shared-factor",
                field="key",
            )
        owner = self._index.key_owner(key.digest)
        # The Baseline Requirements 6.1.1.3; whose key it was does not matter.
        if owner is not None and self._index.is_compromised(key.digest):
            raise Refused(
                "This key is compromised: a certificate for it was revoked by a proof that the key itself has signed;"
                " make a new one.",
                code="key-blocked",
                field="key",
            )
        if owner is not None and owner.account != account:
            raise Refused(
                "This key was certified before, and not for this account, or what is known of it was removed; make a"
                " new key for this request.",
                code="key-in-use",
                field="key",
            )

    def check_promised(self, intent: Intent) -> None:
        """Raise Refused for a certificate that was promised and whose key has proved since to be compromised."""
        if self._index.is_compromised(identify_certified_key(intent.tbs_certificate).digest):
            raise Refused(
                "The key of this certificate has proved to be compromised after the certificate was promised: it is not"
                " signed; ask for another one, with a new key.",
                code="key-blocked",
                field="key",
            )

    def alarms(self) -> Iterator[str]:
        """A sentence for each key that was certified and others have, until its certificates are revoked."""
        yield from self._compromised()
        found = 0
        for digest in self._exposed:
            for sentence in self._harm(digest):
                found += 1
                if found <= _MAXIMUM_ALARMS:
                    yield sentence
        if found > _MAXIMUM_ALARMS:
            yield f"{found - _MAXIMUM_ALARMS} more keys share prime factors: see the signer's log"

    def _forget_one(self) -> None:
        """Make room: what is nobody's goes first, so that a flood of worthless keys hides none that matters."""
        if len(self._exposed) >= _MAXIMUM_EXPOSED:
            worthless = (each for each in self._exposed if each not in self._own and not self._index.knows_key(each))
            del self._exposed[next(worthless, next(iter(self._exposed)))]

    def _compromised(self) -> Iterator[str]:
        serials = self._index.standing_though_compromised(at_most=_MAXIMUM_SERIALS + 1)
        if serials:
            listed = ", ".join(each.hex() for each in serials[:_MAXIMUM_SERIALS])
            more = " and more" if len(serials) > _MAXIMUM_SERIALS else ""
            yield (
                "certificates stand whose key is compromised, as the key itself has proved for another certificate:"
                f" revoke {listed}{more}, with the reason keyCompromise"
            )

    def _harm(self, digest: bytes) -> Iterator[str]:
        if name := self._own.get(digest):
            yield (
                f"the key of the sub-CA {name} shares a prime factor with a key that somebody asked a certificate for:"
                " whoever has both can compute it. Halt this sub-CA (`cassiopeia order make halt-authority`), and read"
                " the runbook"
            )
            return
        serials = [each for each in self._index.certificates_of_key(digest) if not self._index.is_revoked(each)]
        if serials:
            listed = ", ".join(each.hex() for each in serials[:_MAXIMUM_SERIALS])
            more = f" and {len(serials) - _MAXIMUM_SERIALS} more" if len(serials) > _MAXIMUM_SERIALS else ""
            yield (
                f"the key of these certificates shares a prime factor with a key that came later, and anybody who has"
                f" both can compute it: revoke {listed}{more}, with the reason keyCompromise"
            )
