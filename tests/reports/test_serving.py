"""The program under real conditions: TLS by a real client, a certificate renewed, a stop under load, its log."""

import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from reports.tokens.issuing import Wanted, issue
from reports.tokens.keys import READERS, add_key
from tests.reports.issuers import AUDIENCE, ec_key
from tests.sample_reports import sample_report

FACTORY, ENTRY, SITE = "Example-Factory", "Example_T2_CE1", "Example-T2"
JSON = {"content-type": "application/json"}


def fresh() -> bytes:
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return orjson.dumps(
        sample_report(created_at=made, glidein__factory=FACTORY, glidein__entry=ENTRY, glidein__site=SITE)
    )


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A running `site-db serve`, its URL and its log."""
    log = folder / "log"
    command = [sys.executable, "-c", "from reports.cli import main; main()", "serve", "--port", "0", *arguments]
    environment = {**os.environ, "SITE_DB_DATABASE": f"sqlite:///{folder / 'site.db'}"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stderr=stream, env=environment)
    try:
        yield process, until(log, rb"listening on (\S+)").decode(), log
    finally:
        process.kill()
        process.wait()


def test_nobody_becomes_a_trusted_proxy_by_a_header(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(
        f'[tokens]\naudience = ["{AUDIENCE}"]\nkeys = "{tmp_path}/keys"\n'
        '[readers]\nproxies = ["192.0.2.10/32"]\nproxy_header = "X-Remote-User"\n'
    )
    headers = {"X-Forwarded-For": "192.0.2.10", "X-Forwarded-Proto": "https", "X-Remote-User": "eve"}
    with serving(tmp_path, "--config", str(tmp_path / "serve.toml")) as (_, url, _):
        assert httpx.get(f"{url}/api/v1/sites", headers=headers).status_code == 401


def until(log: Path, pattern: bytes) -> bytes:
    end = time.monotonic() + 20
    while not (found := re.search(pattern, log.read_bytes())):
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
    return found[1] if found.groups() else found[0]


def write_certificate(folder: Path, name: str) -> Path:
    """A certificate that signs itself, for this machine, with its key; returns the certificate's path."""
    key = ec_key(name)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(pem)
    return folder / "cert.pem"


def with_tokens(folder: Path) -> tuple[Path, str, str]:
    """A configuration with tokens; its path, a writer's and a reader's token."""
    keys = folder / "keys"
    for issuer in (FACTORY, READERS):
        add_key(keys, issuer, "k")
    path = folder / "serve.toml"
    path.write_text(f'[server]\nlog_format = "json"\n[tokens]\naudience = ["{AUDIENCE}"]\nkeys = "keys"\n')
    now = datetime.now(UTC)
    writer = issue(keys, Wanted(FACTORY, ENTRY, AUDIENCE, site=SITE), now)
    return path, writer, issue(keys, Wanted(READERS, "alice", AUDIENCE), now)


def test_a_real_client_speaks_tls_and_a_renewed_certificate_is_used_without_a_stop(tmp_path: Path):
    certificate = write_certificate(tmp_path, "first")
    first = ssl.create_default_context(cafile=str(certificate))
    arguments = ("--tls-cert", str(certificate), "--tls-key", str(tmp_path / "key.pem"))
    with serving(tmp_path, *arguments) as (process, url, log):
        assert url.startswith("https://127.0.0.1:")
        assert httpx.post(f"{url}/api/v1/reports", content=fresh(), headers=JSON, verify=first).status_code == 201
        with pytest.raises(httpx.ConnectError, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
            httpx.get(url, verify=ssl.create_default_context())
        with pytest.raises(httpx.HTTPError):
            httpx.get(url.replace("https", "http"))
        certificate.write_text("no certificate")
        process.send_signal(signal.SIGHUP)
        until(log, b"the old certificate is kept")
        assert httpx.get(f"{url}/healthz", verify=first).status_code == 200
        second = ssl.create_default_context(cafile=str(write_certificate(tmp_path, "second")))
        process.send_signal(signal.SIGHUP)
        until(log, b"the certificate was read again")
        assert httpx.get(f"{url}/healthz", verify=second).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz", verify=first)


def test_what_was_acknowledged_before_a_stop_under_load_is_stored_and_no_token_is_logged(tmp_path: Path):
    configuration, writer, reader = with_tokens(tmp_path)
    with serving(tmp_path, "--config", str(configuration)) as (process, url, log):
        headers = {**JSON, "authorization": f"Bearer {writer}"}

        def send_until_it_stops(_: int) -> list[str]:
            acknowledged = []
            with httpx.Client(timeout=20) as client:
                while True:
                    content = fresh()
                    try:
                        answer = client.post(f"{url}/api/v1/reports", content=content, headers=headers)
                    except httpx.HTTPError:
                        return acknowledged
                    if answer.status_code == 201:
                        acknowledged.append(orjson.loads(content)["report_id"])

        with ThreadPoolExecutor(8) as pool:
            senders = [pool.submit(send_until_it_stops, number) for number in range(8)]
            bad = httpx.post(f"{url}/api/v1/reports", content=writer.encode(), headers=headers)
            assert bad.status_code == 400
            mistaken = {**headers, "content-type": f"Bearer {writer}"}
            assert httpx.post(f"{url}/api/v1/reports", content=b"", headers=mistaken).status_code == 415
            assert httpx.get(f"{url}/api/v1/sites", headers=headers).status_code == 403
            asked = {"authorization": f"Bearer {reader}"}
            assert httpx.get(f"{url}/api/v1/sites", headers=asked).status_code == 200
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            acknowledged = [report_id for sender in senders for report_id in sender.result(30)]
        assert process.wait(30) == 0
        lines = [line for line in log.read_text().splitlines() if not line.startswith("listening on ")]
    with sqlite3.connect(tmp_path / "site.db") as database:
        stored = {row[0].hex() for row in database.execute("SELECT report_id FROM reports")}
    assert len(acknowledged) > 8
    assert {report_id.replace("-", "") for report_id in acknowledged} <= stored
    assert [orjson.loads(line)["reason"] for line in lines] == ["not_json", "media_type"]
    secrets = [part for token in (writer, reader) for part in token.split(".")[1:]]
    secrets += [path.read_bytes().hex() for path in (tmp_path / "keys").rglob("*.key")]
    assert [secret for secret in secrets if secret[:20] in "\n".join(lines)] == []


def test_tokens_without_tls_beyond_this_machine_are_warned_of(tmp_path: Path):
    configuration, *_ = with_tokens(tmp_path)
    with serving(tmp_path, "--config", str(configuration), "--host", "0.0.0.0") as (_, _, log):
        assert b"tokens travel unencrypted" in log.read_bytes()
