"""The ceremony's lint worker: a program that lints CA certificates and CRLs by RFC 5280, once, and ends.

Started by `inspection` as `python -m cassiopeia.ceremony.lint_worker`: tasks on stdin, findings on stdout, both as one
MessagePack document. It holds no key and decides nothing. (`client.lint_worker` lints subscribers' certificates before
they are signed; this one sees what is signed already.)
"""

from __future__ import annotations

import logging
import sys

from pkilint import pkix
from pkilint.loader import RFC5280CertificateDocumentLoader, RFC5280CertificateListDocumentLoader
from pkilint.pkix import certificate, crl, extension, name
from pkilint.validation import ValidationFindingSeverity, ValidationResult, Validator

from cassiopeia.ceremony.lint_tasks import (
    CERTIFICATE,
    ArtefactFindings,
    ArtefactTask,
    Remark,
    read_tasks,
    write_findings,
)


def main() -> None:
    # What goes wrong in a validator becomes a finding.
    logging.getLogger("pkilint").addHandler(logging.NullHandler())
    tasks = read_tasks(sys.stdin.buffer.read())
    answers = [ArtefactFindings(name=task.name, remarks=lint(task)) for task in tasks]
    sys.stdout.buffer.write(write_findings(answers))


def lint(task: ArtefactTask) -> tuple[Remark, ...]:
    """What the linter finds in these octets, the gravest first."""
    try:
        results = _lint_certificate(task.octets) if task.kind == CERTIFICATE else _lint_crl(task.octets)
    except ValueError as error:
        return (Remark(severity="FATAL", grave=True, code="decoding", message=str(error), place=task.kind),)
    found: dict[Remark, None] = {}
    for result in results:
        for description in result.finding_descriptions:
            remark = Remark(
                severity=description.finding.severity.name,
                # The linter's severities count downwards: FATAL is 0, ERROR 1, WARNING 2.
                grave=description.finding.severity <= ValidationFindingSeverity.ERROR,
                code=description.finding.code,
                message=description.message or "",
                place=result.node.path,
            )
            found[remark] = None
    return tuple(sorted(found, key=lambda each: ValidationFindingSeverity[each.severity]))


def _lint_certificate(octets: bytes) -> list[ValidationResult]:
    document = RFC5280CertificateDocumentLoader().load_der_document(octets)
    validators: Validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    results: list[ValidationResult] = validators.validate(document.root)
    return results


def _lint_crl(octets: bytes) -> list[ValidationResult]:
    document = RFC5280CertificateListDocumentLoader().load_der_document(octets)
    validators: Validator = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )
    results: list[ValidationResult] = validators.validate(document.root)
    return results


if __name__ == "__main__":
    main()
