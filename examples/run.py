"""A CA that stays: made once under ./var, kept across restarts; its four processes run until Ctrl-C.

Run by `make run`.
"""

from __future__ import annotations

import argparse
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

CASSIOPEIA = [sys.executable, "-m", "cassiopeia"]
POLL_S = 0.2
STOP_TIME_LIMIT_S = 30.0

TRY_IT = """
The CA is running; Ctrl-C stops it. From a second terminal:

    openssl req -new -newkey rsa:2048 -nodes -keyout example.key -subj / -out example.csr
    {command} request submit -c {directory}/client/client.toml --wait \\
        --profile 9004-unproved-server --cn www.example.org --dns www.example.org example.csr > example.pem

That profile asks for no proof. A real one does: say what you have seen, then ask for the certificate.

    {command} validator observe -c {directory}/validator/validator.toml \\
        dns-control www.example.org --account operator --method dns
    {command} validator observe -c {directory}/validator/validator.toml \\
        caa-permits www.example.org --account operator
    {command} request submit -c {directory}/client/client.toml --wait \\
        --profile 0004-server --dns www.example.org example.csr > example.pem

How it all fares:

    {command} status -c {directory}/client/client.toml

CA certificates and CRLs, which the publisher serves at {url}: {directory}/client/public
Whether a certificate is revoked, it says at {url}/ocsp:

    openssl ocsp -url {url}/ocsp -partial_chain -CAfile {directory}/client/public/SUB-CA.pem \\
        -issuer {directory}/client/public/SUB-CA.pem -cert example.pem

A signer that stood still for more than three days issues nothing until an operator has confirmed its clock:

    {command} order make confirm-clock -c {directory}/client/client.toml --out clock.order
    {command} order sign clock.order --key {directory}/operator/operator.key \\
        --passphrase-file {directory}/operator/passphrase
    {command} order send clock.order -c {directory}/client/client.toml
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a CA under a directory if it is not there, and run it.")
    parser.add_argument("--directory", type=Path, default=Path("var"))
    parser.add_argument("--key-algorithm", default="RSA-4096", help="of every CA key, when the CA is made")
    parser.add_argument("--http-port", type=int, default=8080, help="of the publisher; 0: any, see its log")
    arguments = parser.parse_args()
    directory = arguments.directory
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        make(directory, arguments.key_algorithm)
    except KeyboardInterrupt:
        print()
        raise SystemExit(0) from None
    # From here on a signal only leaves a note: one that raised, between a start and its end, would leave orphans.
    received: list[int] = []
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: received.append(number))
    running = start(directory, http_port=arguments.http_port)
    while not received and all(process.poll() is None for process in running.values()):
        time.sleep(POLL_S)
    if received:
        print()
    status = stop(running)
    # The interpreter takes its handlers down before it is gone: one more Ctrl-C must not change what it ends with.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    raise SystemExit(status)


def make(directory: Path, key_algorithm: str) -> None:
    # An empty directory is no CA, and `init` fills it; whatever else stands there it refuses.
    if not client_config(directory).exists():
        print(
            f"Making a CA under {directory}. Some of its profiles demand no proofs, and say so: it is for trying out.",
            flush=True,
        )
        options = ["--unproved-profiles", "--periods", "2", "--key-algorithm", key_algorithm]
        with TemporaryDirectory() as operator:
            options += ["--operator-key", make_operator(Path(operator))]
            if subprocess.run([*CASSIOPEIA, "init", str(directory), *options], check=False).returncode != 0:
                raise SystemExit(1)
            shutil.copytree(operator, directory / "operator")


def make_operator(directory: Path) -> str:
    """An operator for trying out, whose passphrase lies beside his key; return the file of his public key."""
    directory.chmod(0o700)
    passphrase = directory / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text(secrets.token_hex(16))
    command = [*CASSIOPEIA, "order", "key", str(directory / "operator.key"), "--passphrase-file", str(passphrase)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        raise SystemExit(1)
    (directory / "operator.pem").write_text(done.stdout)
    return str(directory / "operator.pem")


def client_config(directory: Path) -> Path:
    return directory / "client" / "client.toml"


def publisher_config(directory: Path, *, http_port: int) -> Path:
    """With this port in it."""
    path = directory / "publisher" / "publisher.toml"
    path.write_text(re.sub(r'(?m)^listen = "[^"]*"', f'listen = "127.0.0.1:{http_port}"', path.read_text()))
    return path


def start(directory: Path, *, http_port: int) -> dict[str, subprocess.Popen[bytes]]:
    commands = {
        "signer": ["signer", "run", "-c", str(directory / "signer" / "signer.toml")],
        "client": ["client", "run", "-c", str(client_config(directory))],
        "validator": ["validator", "run", "-c", str(directory / "validator" / "validator.toml")],
        "publisher": ["publisher", "run", "-c", str(publisher_config(directory, http_port=http_port))],
    }
    # A session of its own for each, so that Ctrl-C reaches this program alone, which stops them in order.
    running = {
        name: subprocess.Popen([*CASSIOPEIA, *command], start_new_session=True) for name, command in commands.items()
    }
    command, url = Path(sys.executable).parent / "cassiopeia", f"http://127.0.0.1:{http_port}"
    print(TRY_IT.format(command=command, directory=directory, url=url), flush=True)
    return running


def stop(running: dict[str, subprocess.Popen[bytes]]) -> int:
    """End them, the signer last; return 1 when one of them had ended by itself or did not end well."""
    failed = 0
    for name in ("publisher", "validator", "client", "signer"):
        process = running.get(name)
        if process is None:
            continue
        if process.poll() is not None:
            print(
                f"{name} ended by itself with status {process.returncode}; its last words stand above", file=sys.stderr
            )
            failed = 1
            continue
        process.terminate()
        try:
            failed |= process.wait(STOP_TIME_LIMIT_S) != 0
        except subprocess.TimeoutExpired:
            process.kill()
            failed = 1
    return failed


if __name__ == "__main__":
    main()
