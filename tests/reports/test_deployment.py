"""The files under deploy/collector: what can be tried of them here is tried."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from reports.collector import create_app
from reports.serve_configuration import make_authorizer
from site_db.store import Store
from tests.reports.conftest import ANY_AGE, RunServer
from tests.reports.issuers import AUDIENCE
from tests.reports.test_serving import write_certificate

DEPLOY = Path(__file__).parents[2] / "deploy/collector"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path):
    units = []
    for unit in sorted(DEPLOY.glob("site-db*.*")):
        # The program is not installed where it will be.
        text = unit.read_text(encoding="utf-8").replace("/opt/site-db/bin/site-db", "/bin/true")
        units.append(tmp_path / unit.name)
        units[-1].write_text(text)
    assert len(units) >= 5
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *map(str, units)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_a_real_nginx_does_tls_and_nobody_outside_says_who_reads(store: Store, run_server: RunServer, tmp_path: Path):
    write_certificate(tmp_path, "proxy")
    tokens = {"audience": [AUDIENCE], "keys": str(tmp_path / "keys")}
    app = create_app(store, ANY_AGE, make_authorizer({"tokens": tokens, "readers": {"proxies": ["127.0.0.1/32"]}}))
    with run_server(app) as url:
        text = (
            (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("127.0.0.1:8642", url.removeprefix("http://"))
        )
        text = text.replace("listen 443 ssl", f"listen unix:{tmp_path}/https ssl")
        text = re.sub(r"(?m)^ *listen \[::\].*$", "", text)
        text = text.replace("/etc/site-db/tls/fullchain.pem", f"{tmp_path}/cert.pem")
        text = text.replace("/etc/site-db/tls/key.pem", f"{tmp_path}/key.pem")
        (tmp_path / "site-db.conf").write_text(text)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in kinds)
        main = f"daemon off;\nmaster_process off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\n"
        inside = f"access_log off;\n{folders}include {tmp_path}/site-db.conf;"
        (tmp_path / "main.conf").write_text(f"{main}http {{\n{inside}\n}}\n")
        command = ["nginx", "-p", str(tmp_path), "-e", f"{tmp_path}/error.log", "-c", f"{tmp_path}/main.conf"]
        tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
        assert tested.returncode == 0, tested.stderr
        proxy = subprocess.Popen(command)
        try:
            while not (tmp_path / "https").exists():
                assert proxy.poll() is None, (tmp_path / "error.log").read_text()
                time.sleep(0.02)
            transport = httpx.HTTPTransport(uds=str(tmp_path / "https"), verify=False)
            with httpx.Client(transport=transport, base_url="https://sitedb.example.org", timeout=20) as outside:
                assert outside.get("/healthz").status_code == 200
                forged = outside.get("/api/v1/sites", headers={"x-remote-user": "root"})
                assert (forged.status_code, forged.json()["type"].rpartition(":")[2]) == (401, "no_token")
                json_type = {"content-type": "application/json"}
                refused = outside.post("/api/v1/reports", content=b"{}", headers=json_type)
                assert refused.headers["www-authenticate"].startswith("Bearer")
        finally:
            proxy.terminate()
            proxy.wait(20)


def test_the_container_copies_what_there_is():
    root = DEPLOY.parents[1]
    sources = [
        word
        for line in re.findall(
            r"(?m)^COPY (?!--from)(.*) /source", (DEPLOY / "Containerfile").read_text(encoding="utf-8")
        )
        for word in line.split()
    ]
    assert {"probe", "site_db", "reports", "pyproject.toml"} <= set(sources)
    assert [source for source in sources if not (root / source).exists()] == []
