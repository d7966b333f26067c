"""The whole system with its store in a real PostgreSQL that the test starts itself (Debian: apt install postgresql)."""

from __future__ import annotations

import re

from examples.system import System
from tests.support.acceptance import SERVER, make_key, make_request, start
from tests.support.postgres import running_postgres


def test_the_store_may_be_a_postgresql(alone: System) -> None:
    key = make_key(alone, "-algorithm", "ed25519")
    with running_postgres() as server:
        configuration = alone.directory / "ca" / "client" / "client.toml"
        text, changes = re.subn(r"sqlite:///[^\"]+", server.create_database("acceptance"), configuration.read_text())
        assert changes == 1
        configuration.write_text(text)
        # 1. Without tables every command says which one makes them.
        assert "cassiopeia store upgrade" in alone.client("request", "list", status=1).stderr
        alone.client("store", "upgrade")
        start(alone)
        # 2. Requests and a revocation, there and back.
        request = make_request(alone, key)
        options = ["--wait", "--profile", SERVER, "--cn", "www.example.org", "--dns", "www.example.org", request]
        issued = [alone.ask("request", "submit", options=options) for _ in range(3)]
        assert len({each["serial_number"] for each in issued}) == 3
        alone.client("certificate", "revoke", options=["--wait", issued[0]["serial_number"]])
        certificate = alone.directory / "revoked.pem"
        certificate.write_text(issued[0]["certificate"])
        crl = ["-crl_check", "-CRLfile", alone.crl_of(certificate), *alone.trust_options(certificate)]
        assert "certificate revoked" in alone.openssl("verify", *crl, str(certificate), status=2).stderr
        # 3. The database drops every connection: the client goes on by itself, the same process as before.
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert alone.ask("request", "submit", options=options)["state"] == "issued"
        # 4. The queue is empty, and everything ends well while the database still runs.
        assert not any(alone.ask("status")["queue"]["waiting"].values())
        for name in ("client", "signer"):
            alone.stop(name)
