"""The lint worker: a program that loads pkilint once, and lints what the client sends until the client is gone.

Started by `lint_pool` as `python -m cassiopeia.client.lint_worker DESCRIPTOR`, with a socket at that descriptor. It is
the only module that loads pkilint. It holds no key, no database and no line, and decides nothing: which findings veto a
certificate is the client's business (`lint`).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

from pkilint import finding_filter
from pkilint.cabf import serverauth, smime
from pkilint.cabf.serverauth.serverauth_constants import CertificateType
from pkilint.cabf.smime.smime_constants import Generation, ValidationLevel
from pkilint.loader import RFC5280CertificateDocumentLoader
from pkilint.pkix import certificate, extension, name
from pkilint.pkix.certificate import RFC5280Certificate
from pkilint.pkix.general_name import DomainNameSyntaxValidator
from pkilint.validation import (
    DecodingValidator,
    ValidationFindingDescription,
    ValidationFindingSeverity,
    ValidationResult,
    Validator,
)
from pyasn1_alt_modules import rfc5280

from cassiopeia.client.lint_tasks import (
    LINT_TIME_LIMIT_S,
    Finding,
    LintReady,
    LintResult,
    read_tasks,
)
from cassiopeia.core.certificate import compose_certificate, read_tbs
from cassiopeia.errors import PeerError
from cassiopeia.frames import FrameReader, frame

# A signature of the right shape for each kind of key. Nobody verifies it: the lint comes before the key is used.
_ECDSA_PLACEHOLDER: Final = bytes.fromhex("3006020101020101")  # RFC 3279 2.2.3: Ecdsa-Sig-Value with r = s = 1
_PLACEHOLDER_OCTETS: Final = {
    "RSA": 512,
    "Ed25519": 64,
    "Ed448": 114,
    "ML-DSA-44": 2420,
    "ML-DSA-65": 3309,
    "ML-DSA-87": 4627,
}
_RECEIVE_OCTETS: Final = 1 << 20
_TOGETHER_S: Final = 0.025

_loader = RFC5280CertificateDocumentLoader()


def main() -> None:
    """Answer tasks until the socket closes."""
    # Ctrl-C and a stop by systemd reach the whole group of processes. This one ends when the client closes the socket.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # What goes wrong in a validator becomes a finding; the log is the client's.
    logging.getLogger("pkilint").addHandler(logging.NullHandler())
    _pkix_validators()
    # The linter's tables stay: a tenth of each lint would go into looking for garbage among them.
    gc.freeze()
    # A client that has gone wants no answer.
    with socket.socket(fileno=int(sys.argv[1])) as stream, contextlib.suppress(ConnectionError):
        _serve(stream)


def lint(tbs_certificate: bytes, rules: Iterable[str]) -> tuple[Finding, ...]:
    """Everything that the linter finds in exactly these octets, the gravest first.

    Each set of rules contains RFC 5280's, so that these are only looked at by themselves when there is no other.
    """
    rules = tuple(rules)
    found: dict[Finding, None] = {}  # the same finding by two sets of rules is one
    for lint_by in [_RULES[rule] for rule in rules] or [_lint_pkix]:
        try:
            # Anew for each: the linter hangs what it decodes into its document.
            document = _loader.load_der_document(with_placeholder(tbs_certificate))
            results = lint_by(document)
        except (ValueError, PeerError) as error:
            found[_failure(DecodingValidator.VALIDATION_ASN1_DECODING_FAILURE.code, error)] = None
        except Exception as error:  # noqa: BLE001 - as in the linter itself: a validator that fails is a finding
            found[_failure(Validator.VALIDATION_FINDING_UNHANDLED_EXCEPTION.code, error)] = None
        else:
            found.update(dict.fromkeys(_findings(results)))
    return tuple(sorted(found, key=lambda each: ValidationFindingSeverity[each.severity]))


def with_placeholder(tbs_certificate: bytes) -> bytes:
    """A Certificate around these octets, with their own algorithm and a signature that is none; raises PeerError."""
    kind = read_tbs(tbs_certificate).algorithm.key_kind
    signature = _ECDSA_PLACEHOLDER if kind == "EC" else bytes(_PLACEHOLDER_OCTETS[kind])
    return compose_certificate(tbs_certificate, signature)


def _serve(stream: socket.socket) -> None:
    stream.sendall(frame(LintReady()))
    reader = FrameReader()
    while octets := stream.recv(_RECEIVE_OCTETS):
        for body in reader.feed(octets):
            answers, begun = bytearray(), time.monotonic()
            for task in read_tasks(body):
                # The client ends a worker that hangs. Should the client be gone, this does: SIGALRM kills.
                signal.alarm(2 * LINT_TIME_LIMIT_S)
                findings = lint(task.tbs_certificate, task.rules)
                signal.alarm(0)
                answers += frame(LintResult(number=task.number, findings=findings))
                # Several at once: what they set free goes over the line together, in one record.
                if time.monotonic() - begun >= _TOGETHER_S:
                    stream.sendall(answers)
                    answers, begun = bytearray(), time.monotonic()
            stream.sendall(answers)


def _lint_pkix(document: RFC5280Certificate) -> list[ValidationResult]:
    return _validate(_pkix_validators(), document)


def _lint_serverauth(document: RFC5280Certificate) -> list[ValidationResult]:
    kind = serverauth.determine_certificate_type(document)
    if kind is CertificateType.DV_FINAL_CERTIFICATE and _organisation(document):
        # Without one of the CA/Browser Forum's policies, the linter takes every certificate for one without a name.
        kind = CertificateType.OV_FINAL_CERTIFICATE
    found = _validate(_serverauth_validators(kind), document)
    # The filters take out what RFC 5280 says and the CA/Browser Forum says otherwise.
    results: list[ValidationResult]
    results, _ = finding_filter.filter_results(serverauth.create_serverauth_finding_filters(kind), found)
    return results


def _lint_smime(document: RFC5280Certificate) -> list[ValidationResult]:
    level, generation = smime.guess_validation_level_and_generation(document)
    if smime.determine_validation_level_and_generation(document) is None:
        # Without one of the CA/Browser Forum's policies, the linter guesses the generation that ended in July 2025.
        generation = Generation.MULTIPURPOSE
    return _validate(_smime_validators(level, generation), document)


_RULES: Final[dict[str, Callable[[RFC5280Certificate], list[ValidationResult]]]] = {
    "serverauth": _lint_serverauth,
    "smime": _lint_smime,
}


# Making validators takes a tenth of a second, using them milliseconds; they keep nothing of what they have seen.
@functools.cache
def _pkix_validators() -> Validator:
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@functools.cache
def _serverauth_validators(kind: CertificateType) -> Validator:
    return certificate.create_pkix_certificate_validator_container(
        serverauth.create_decoding_validators(),
        # RFC 5280's rules are all there but those for the issuer.
        [*serverauth.create_validators(kind), certificate.create_issuer_validator_container([])],
    )


@functools.cache
def _smime_validators(level: ValidationLevel, generation: Generation) -> Validator:
    return certificate.create_pkix_certificate_validator_container(
        smime.create_decoding_validators(), smime.create_subscriber_validators(level, generation)
    )


def _validate(validators: Validator, document: RFC5280Certificate) -> list[ValidationResult]:
    results: list[ValidationResult] = validators.validate(document.root)
    return results


def _organisation(document: RFC5280Certificate) -> bool:
    return any(document.get_subject_attributes_by_type(rfc5280.id_at_organizationName))


def _findings(results: Iterable[ValidationResult]) -> Iterable[Finding]:
    for result in results:
        for description in result.finding_descriptions:
            if not _is_wildcard(result, description):
                yield Finding(
                    code=description.finding.code,
                    # The linter's severities count downwards: FATAL is 0, ERROR 1, WARNING 2.
                    grave=description.finding.severity <= ValidationFindingSeverity.ERROR,
                    severity=description.finding.severity.name,
                    message=description.message or "",
                    place=result.node.path,
                )


def _is_wildcard(result: ValidationResult, description: ValidationFindingDescription) -> bool:
    """Whether all that is wrong is `*` as the first label.

    RFC 5280 4.2.1.6 leaves wildcards open, and the linter calls them no names at all. Whether they are allowed is the
    profile's word; that this is the name that was asked for has been compared.
    """
    wrong = description.finding == DomainNameSyntaxValidator.VALIDATION_NOT_PREFERRED_NAME_SYNTAX
    return wrong and str(result.node.pdu).startswith("*.")


def _failure(code: str, error: Exception) -> Finding:
    return Finding(code=code, grave=True, severity="FATAL", message=str(error), place="certificate")


if __name__ == "__main__":
    main()
