"""`make demo`, over both links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUBSCRIBERS = ["rsa-2048", "rsa-4096", "p-256", "p-384", "ed25519", "spkac", "proved"]
CYCLE = [
    ("client", "sent"),
    ("signer", "approved"),
    ("client", "log"),
    ("signer", "log"),
    ("signer", "signed"),
    ("client", "certificate"),
]


@pytest.mark.parametrize("link", ["unix", "serial"])
def test_the_demo_shows_the_main_job(link: str) -> None:
    command = [sys.executable, "-m", "examples.demo", "--link", link, "--key-algorithm", "P-256"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
    headings = re.findall(r"^([0-9]+)\. ", done.stdout, re.MULTILINE)
    assert headings == [str(number) for number in range(1, 12)]
    verified, revocation = done.stdout.split("9. One is revoked")
    assert re.findall(r"^    (\S+)\.crt: OK$", verified, re.MULTILINE) == SUBSCRIBERS
    assert re.findall(r"^    (\S+)\.crt: OK$", revocation, re.MULTILINE) == SUBSCRIBERS[1:]
    assert "error 23 at 0 depth lookup: certificate revoked\n    error rsa-2048.crt" in revocation
    assert "Superseded" in revocation
    before, _, after = revocation.partition("cassiopeia certificate revoke")
    assert "Response verify OK\n    rsa-2048.crt: good" in before
    assert "Response verify OK\n    rsa-2048.crt: revoked" in after
    ended = [f"{name} ended with status 0\n" for name in ("publisher", "validator", "client", "signer")]
    assert "    ".join(ended) in revocation
    # Two for the names that were proved, and one for the responder under each sub-CA.
    assert "the proofs of 7 certificates suffice; 6 are of profiles that demand none" in revocation

    cycle = verified.split("the issuance cycle\n")[1].split("5. What is proved")[0]
    assert re.findall(r"^    (client|signer)  request [0-9a-f]{8}: (\w+)", cycle, re.MULTILINE) == CYCLE

    proved, cheats = verified.split("5. What is proved")[1].split("6. What is not proved")
    assert re.search(r"proved +request [0-9a-f]{8}: issued by unassured_", proved)
    assert re.findall(r"validator  request [0-9a-f]{8}: (\S+) shop.example.org", proved) == [
        "dns-control",
        "caa-permits",
    ]
    for kind in ("dns-control", "caa-permits"):
        for name in ("bank", "shop"):
            assert f"{kind} for {name}.example.org" in cheats
    assert "attested anew: The attestation is not over this request with these observations." in cheats
    assert "grey-man: cassiopeia: error: The profile 0004-server demands proofs that are missing" in cheats
    assert re.search(r"momo: issued by unassured_\S+, serial 01", cheats)
