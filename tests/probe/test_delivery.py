"""Ways out for a report, against a real HTTP and HTTPS server and real proxies on loopback, and real folders.

SITUATIONS is the table of docs/delivery.md: each row of the page is a row here.
"""

import base64
import copy
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from probe import delivery, posting, spool
from probe.delivery import Delivered
from tests.probe.samples import ROOT, settings
from tests.pythons import python
from tests.sample_reports import sample_report

HERE = Path(__file__).parent
NOWHERE = "http://127.0.0.1:1"
# With the pauses that the tests set; a real run has one more.
TRIES = 3
SECRET = "c2VjcmV0c2lnbmF0dXJl"


def jwt(expires_in_s: float) -> str:
    claims = json.dumps({"exp": int(time.time() + expires_in_s), "sub": "E1"}).encode()
    return f"eyJhbGciOiJIUzI1NiJ9.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{SECRET}"


class World(NamedTuple):
    """What there is: URLs of collectors and proxies, a folder of certificates, what the collector noted."""

    plain: str
    tls: str
    proxies: dict[str, str]
    folder: Path

    def received(self) -> list[dict[str, Any]]:
        """What the collectors have received."""
        notes = self.folder / "notes"
        return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def openssl(*arguments: str, folder: Path) -> str:
    return subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def make_certificates(folder: Path) -> None:
    """An authority (ca.pem, also as a hashed folder), a server certificate for localhost, an authority of others."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-addext", "keyUsage=critical,keyCertSign", "-addext", "basicConstraints=critical,CA:TRUE"]
    for name in ("ca", "others"):
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
        openssl("req", "-x509", *key, *files, "-days", "2", *authority, folder=folder)
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=collector", folder=folder)
    (folder / "extensions").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
    signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions"]
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signing, folder=folder)
    (folder / "hashed").mkdir()
    name = openssl("x509", "-in", "ca.pem", "-noout", "-hash", folder=folder).strip()
    (folder / "hashed" / f"{name}.0").write_bytes((folder / "ca.pem").read_bytes())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Servers are programs of their own: delivery forks, and threads beside a fork would not be wise."""
    folder = tmp_path_factory.mktemp("world")
    make_certificates(folder)
    collector, proxy, notes = str(HERE / "collector_standin.py"), str(HERE / "proxy_standin.py"), str(folder / "notes")
    rules = {"open": "open", "closed": "closed", "password": "user:pass word"}
    commands = [[collector, notes], [collector, notes, str(folder / "server.pem"), str(folder / "server.key")]]
    commands += [[proxy, rule, str(folder / f"proxy-{name}")] for name, rule in rules.items()]
    processes = [subprocess.Popen([sys.executable, *line], stdout=subprocess.PIPE, text=True) for line in commands]
    plain, tls, *ports = (process.stdout.readline().strip() for process in processes if process.stdout)
    proxies = {name: f"http://127.0.0.1:{port}" for name, port in zip(rules, ports, strict=True)}
    yield World(f"http://127.0.0.1:{plain}", f"https://localhost:{tls}", proxies, folder)
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PAUSES_S", (0.02, 0.04))


class Situation(NamedTuple):
    """Settings and environment of a run, and what comes of it: the reason of each try (None: taken), words of the last.

    {plain}, {tls}, {open}, {closed}, {password} are URLs, {folder} the folder of certificates and tokens.
    """

    settings: dict[str, str]
    reasons: list[str | None]
    words: str
    environment: dict[str, str] = {}
    glidein: dict[str, str] = {}


def taking(url: str, **changes: str) -> dict[str, str]:
    return {"collector": url, **changes}


CA = {"ca_file": "{folder}/ca.pem"}
SITUATIONS = {
    # The collector
    "it takes the report": Situation(taking("{plain}/201"), [None], "stored"),
    "it has the report already": Situation(taking("{plain}/200"), [None], "known already"),
    "it is in trouble at first (503), then not": Situation(
        taking("{plain}/503,503,201"), ["collector_unavailable"] * 2 + [None], "stored"
    ),
    "it is in trouble all the time (5xx)": Situation(
        taking("{plain}/500"), ["collector_unavailable"] * TRIES, "HTTP 500: "
    ),
    "it asks to come back later than there is time (429)": Situation(
        taking("{plain}/429"), ["collector_unavailable"], "HTTP 429: "
    ),
    "it takes the connection and never answers": Situation(
        taking("{plain}/hang"), ["collector_unavailable"], "while waiting for its answer"
    ),
    "its answer never ends": Situation(taking("{plain}/drip"), ["collector_unavailable"], "while waiting"),
    "its answer is endless and fast": Situation(taking("{plain}/huge"), ["not_a_collector"], "HTTP 201: xxx"),
    "nothing listens there": Situation(taking(NOWHERE), ["network_unreachable"] * TRIES, "refused"),
    "its name is unknown": Situation(
        taking("http://no.such.host.invalid"), ["network_unreachable"] * TRIES, "[Errno -"
    ),
    "it says that the report is too large (413)": Situation(taking("{plain}/413"), ["report_refused"], "HTTP 413: "),
    "it says that the report does not fit (422)": Situation(taking("{plain}/422"), ["report_refused"], "HTTP 422: "),
    "its address redirects": Situation(taking("{plain}/302"), ["not_a_collector"], "points to http://elsewhere.exa"),
    "a portal answers with a page": Situation(taking("{plain}/portal"), ["not_a_collector"], "HTTP 200: <html>"),
    "another web server answers (404)": Situation(taking("{plain}/404"), ["not_a_collector"], "HTTP 404: "),
    "the address is no http URL": Situation(taking("ftp://x"), ["network_unreachable"], "not an http or https URL"),
    # The token
    "the token is good": Situation(taking("{plain}/201", token_file="{folder}/good"), [None], "stored"),
    "the token is in GlideinWMS's list of tokens": Situation(
        taking("{plain}/201", token_file="tokens_arr"), [None], "stored", {}, {"GLIDEIN_WORK_DIR": "{folder}"}
    ),
    "GlideinWMS's list has no token for this URL": Situation(
        taking("{plain}/200", token_file="{folder}/tokens_arr"), ["token_unusable"], "no token for this URL"
    ),
    "the token file is missing": Situation(
        taking("{plain}/201", token_file="{folder}/no token"), ["token_unusable"], "no token: No such file"
    ),
    "the token file holds something else": Situation(
        taking("{plain}/201", token_file="{folder}/two words"), ["token_unusable"], "does not hold one token"
    ),
    "the token has expired": Situation(
        taking("{plain}/201", token_file="{folder}/expired"), ["token_expired"] * TRIES, "the token expired at 20"
    ),
    "the token is refused (401)": Situation(
        taking("{plain}/401", token_file="{folder}/good"), ["token_refused"], "HTTP 401: "
    ),
    "the token is for another entry (403)": Situation(
        taking("{plain}/403", token_file="{folder}/good"), ["token_refused"], "HTTP 403: "
    ),
    # TLS
    "its authority is in PROBE_CA_FILE": Situation(taking("{tls}/201", **CA), [None], "stored"),
    "its authority is in X509_CERT_DIR": Situation(
        taking("{tls}/201"), [None], "stored", {"X509_CERT_DIR": "{folder}/hashed"}
    ),
    "its authority is in the glidein's X509_CERT_DIR": Situation(
        taking("{tls}/201"), [None], "stored", {}, {"X509_CERT_DIR": "{folder}/hashed"}
    ),
    "its authority is in SSL_CERT_FILE": Situation(
        taking("{tls}/201"), [None], "stored", {"SSL_CERT_FILE": "{folder}/ca.pem"}
    ),
    "its authority is unknown": Situation(taking("{tls}/201"), ["tls_failed"], "certificate verify failed"),
    "PROBE_CA_FILE has other authorities": Situation(
        taking("{tls}/201", ca_file="{folder}/others.pem"), ["tls_failed"], "certificate verify failed"
    ),
    "PROBE_CA_FILE is missing": Situation(
        taking("{tls}/201", ca_file="{folder}/none.pem"), ["tls_failed"], "No such file"
    ),
    "its certificate is for another host name": Situation(
        taking("{tls_by_address}/201", **CA), ["tls_failed"], "127.0.0.1"
    ),
    "it does not speak TLS": Situation(taking("{plain_as_tls}/201", **CA), ["tls_failed"], "SSL"),
    # The proxy
    "https through a proxy's tunnel": Situation(
        taking("{tls}/201", **CA), [None], "stored through proxy http://127", {"https_proxy": "{open}"}
    ),
    "http through a proxy": Situation(
        taking("{plain}/201"), [None], "stored through proxy http://127", {"http_proxy": "{open}"}
    ),
    "the proxy wants a password and gets it": Situation(
        taking("{tls}/201", **CA), [None], "stored", {"https_proxy": "http://user:pass%20word@{password_place}"}
    ),
    "the proxy wants a password and gets none": Situation(
        taking("{tls}/201", **CA), ["proxy_failed"] * TRIES, "407", {"https_proxy": "{password}"}
    ),
    "the proxy wants a password for http": Situation(
        taking("{plain}/201"), ["proxy_failed"] * TRIES, "HTTP 407", {"http_proxy": "{password}"}
    ),
    "the proxy refuses the target": Situation(
        taking("{tls}/201", **CA), ["proxy_failed"] * TRIES, "403", {"https_proxy": "{closed}"}
    ),
    "the proxy refuses the target of http": Situation(
        taking("{plain}/201"), ["proxy_failed"] * TRIES, "ERR_ACCESS_DENIED", {"http_proxy": "{closed}"}
    ),
    "the proxy cannot be reached": Situation(
        taking("{tls}/201", **CA), ["proxy_failed"] * TRIES, "refused", {"https_proxy": NOWHERE}
    ),
    "the proxy's address is none": Situation(
        taking("{tls}/201", **CA), ["proxy_failed"] * TRIES, "not of the form", {"https_proxy": "socks5://u:p@x:1"}
    ),
    "no_proxy names the collector": Situation(
        taking("{tls}/201", **CA), [None], "stored", {"https_proxy": NOWHERE, "no_proxy": "localhost,127.0.0.1"}
    ),
    "the glidein's PROXY_URL leads there": Situation(
        taking("{plain}/201"), [None], "stored through proxy", {}, {"PROXY_URL": "{open}"}
    ),
    "the glidein's PROXY_URL refuses, the direct way works": Situation(
        taking("{tls}/201", **CA), ["proxy_failed", None], "stored", {}, {"PROXY_URL": "{closed}"}
    ),
}


@pytest.fixture
def places(world: World, tmp_path: Path) -> dict[str, str]:
    for name, text in {
        "good": jwt(3600), "expired": jwt(-60), "two words": f"{SECRET} {SECRET}",
        "tokens_arr": f'([https://other/]="{SECRET}" [{world.plain}/201/]="{jwt(3600)}" )',
    }.items():  # fmt: skip
        (world.folder / name).write_text(text + "\n")
    return {
        "plain": world.plain,
        "tls": world.tls,
        "tls_by_address": world.tls.replace("localhost", "127.0.0.1"),
        "plain_as_tls": world.plain.replace("http:", "https:"),
        "password_place": world.proxies["password"].removeprefix("http://"),
        "folder": str(world.folder),
        "spool": str(tmp_path / "spool"),
        **world.proxies,
    }


def filled(texts: dict[str, str], places: dict[str, str]) -> dict[str, str]:
    return {name: text.format(**places) for name, text in texts.items()}


def deliver(report: dict[str, Any], environment: dict[str, str] | None = None, **changes: Any) -> list[str]:  # noqa: ANN401 - any setting
    glidein = changes.pop("glidein", None)
    return delivery.deliver(settings(glidein, **changes), report, environment or {})


def test_a_limit_is_told_in_one_way_whoever_notices_it_first(world: World, monkeypatch: pytest.MonkeyPatch):
    """The child of a try has a limit of its own, for the case that nobody waits for it any more."""
    monkeypatch.setattr(posting, "LATER_S", 0.0)
    sending = posting.Sending(world.plain + "/hang", None, None, None, None, 0.5)
    report = sample_report("healthy")
    *_, last = posting.post(sending, json.dumps(report), report["report_id"])
    assert last["reason"] == "collector_unavailable"
    assert "while waiting for its answer" in last["message"]


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
def test_what_happens_when(situation: Situation, world: World, places: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    environment = filled(situation.environment, places)
    if "SSL_CERT_FILE" in environment:
        monkeypatch.setenv("SSL_CERT_FILE", environment["SSL_CERT_FILE"])  # OpenSSL reads it itself
    if situation.settings["collector"].endswith(("hang", "drip")):
        monkeypatch.setattr(delivery, "TRY_LIMIT_S", 2.5)
        monkeypatch.setattr(delivery, "PAUSES_S", ())
    report = sample_report("healthy")
    changes = filled(situation.settings, places)
    started = time.monotonic()
    told = deliver(report, environment, glidein=filled(situation.glidein, places), spool=places["spool"], **changes)
    assert time.monotonic() - started < 30

    tries = [row for row in report["delivery"] if row["way"] == "http"]
    assert [row["reason"] for row in tries] == situation.reasons
    assert situation.words in tries[-1]["message"]
    arrived = situation.reasons[-1] is None
    kept = Path(places["spool"]) / (report["report_id"] + ".json")
    assert kept.exists() is not arrived
    assert [row["way"] for row in report["delivery"]][len(tries) :] == ([] if arrived else ["spool"])
    assert (report["report_id"] in [row["report_id"] for row in world.received()]) or not arrived
    everything = json.dumps([report, told, environment and kept.exists() and kept.read_text()])
    for secret in (SECRET, "pass word", "pass%20word", "u:p@", "user:secret"):
        assert secret not in everything


def test_the_page_has_exactly_these_situations():
    page = (ROOT / "docs/delivery.md").read_text(encoding="utf-8")
    table = page.partition("## What happens when")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", table, re.MULTILINE))
    assert set(SITUATIONS) == set(rows) - {"situation", "---"}
    for name, situation in SITUATIONS.items():
        codes = set(re.findall(r"`([a-z_]+)`", rows[name]))
        assert codes == {code for code in situation.reasons if code}, name


@pytest.mark.parametrize("version", ["3.6", "3.13"])
def test_the_oldest_and_the_newest_python_send_through_a_tunnel_and_verify_the_host(
    version: str, world: World, tmp_path: Path
):
    """Up to 3.6 a wrong host name is an error of another kind; from 3.13 on certificates are judged more strictly."""
    reasons = []
    for host in ("localhost", "127.0.0.1"):
        collector = world.tls.replace("localhost", host) + "/201"
        environment = {
            "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "https_proxy": world.proxies["open"],
            "PROBE_CA_FILE": str(world.folder / "ca.pem"), "PROBE_COLLECTOR": collector,
        }  # fmt: skip
        command = [str(python(version)), "-m", "probe", "run", "--only", "credentials"]
        answer = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
        reasons.append(json.loads(answer.stdout)["delivery"][0]["reason"])
    assert reasons == [None, "tls_failed"]


def test_nothing_that_a_server_answers_can_spoil_the_report(world: World, tmp_path: Path):
    report = sample_report("healthy")
    deliver(report, collector=f"{world.plain}/nasty", spool=str(tmp_path))
    assert report["delivery"][0]["message"].isprintable()
    assert report["delivery"][0]["message"].startswith("HTTP 400: ??[2J")


def test_people_are_told_what_to_do(places: dict[str, str]):
    told = deliver(sample_report("healthy"), collector=places["plain"] + "/401", spool=places["spool"])
    assert "not delivered to" in told[0]
    assert "Renew the token of this entry" in told[0]
    assert "kept as " + places["spool"] in told[1]


def test_a_renewed_token_is_read_again_between_tries(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    token = tmp_path / "token"
    token.write_text(jwt(-60))
    renewed = jwt(3600)

    def renew(*_: object) -> bool:
        token.write_text(renewed)
        return True

    monkeypatch.setattr(delivery, "_pause", renew)
    report = sample_report("healthy")
    deliver(report, collector=f"{world.plain}/201/renewed", token_file=str(token))
    assert [row["reason"] for row in report["delivery"]] == ["token_expired", None]
    assert [row["authorization"] for row in world.received() if row["report_id"] == report["report_id"]] == [
        "Bearer " + renewed
    ]


def test_the_token_of_this_collector_is_taken_from_the_list(tmp_path: Path):
    declared = 'declare -A a; a[https://x/1]=one; a["https://y/"]=two; t=$(declare -p a); echo "${t#*=}"'
    path = tmp_path / "tokens_arr"
    path.write_bytes(subprocess.run(["bash", "-c", declared], check=True, capture_output=True).stdout)
    assert posting.usable_token(str(path), "https://x/1", 0) == "one"
    assert posting.usable_token(str(path), "https://y", 0) == "two"
    with pytest.raises(posting.Failed):
        posting.usable_token(str(path), "https://x", 0)


def test_the_report_goes_compressed_to_the_collectors_path(world: World):
    report = sample_report("healthy")
    sent = copy.deepcopy(report)
    deliver(report, collector=f"{world.plain}/503,201/sub/")
    first, second = (row for row in world.received() if row["report_id"] == report["report_id"])
    assert (first["path"], first["type"], first["authorization"]) == (
        "/sub/api/v1/reports", "application/json", None,
    )  # fmt: skip
    assert first["report"] == sent
    assert [row["reason"] for row in second["report"]["delivery"]] == ["collector_unavailable"]
    assert {**second["report"], "delivery": []} == sent


def test_a_collector_that_comes_up_between_tries_gets_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    asked: list[socket.socket] = []

    def start(*_: object) -> bool:
        asked.append(socket.create_server(("127.0.0.1", port)))
        return True

    def answer() -> None:
        while not asked:
            time.sleep(0.01)
        connection, _ = asked[0].accept()
        with connection:
            connection.recv(1 << 20)
            body = json.dumps({"report_id": report["report_id"]}).encode()
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    report = sample_report("healthy")
    monkeypatch.setattr(delivery, "_pause", start)
    thread = threading.Thread(target=answer)
    thread.start()
    deliver(report, collector=f"http://127.0.0.1:{port}", spool=str(tmp_path))
    thread.join(5)
    asked[0].close()
    assert [row["reason"] for row in report["delivery"]] == ["network_unreachable", None]


def test_a_signal_ends_the_tries_and_the_report_is_kept(world: World, tmp_path: Path):
    report = sample_report("healthy")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    started = time.monotonic()
    deliver(report, collector=f"{world.plain}/hang", spool=str(tmp_path))
    timer.join()
    assert time.monotonic() - started < 8
    assert [(row["way"], row["reason"]) for row in report["delivery"]] == [
        ("http", "probe_interrupted"),
        ("spool", None),
    ]


def test_tries_end_with_the_time(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delivery, "MOST_S", 0.5)
    monkeypatch.setattr(delivery, "PAUSES_S", (0.3, 0.3, 0.3))
    report = sample_report("healthy")
    started = time.monotonic()
    deliver(report, collector=f"{world.plain}/500", spool="/proc/nowhere")
    assert time.monotonic() - started < 8
    assert 1 <= len([row for row in report["delivery"] if row["way"] == "http"]) <= 3
    assert (report["delivery"][-1]["way"], report["delivery"][-1]["reason"]) == ("spool", "scratch_unusable")


# --- the spool ---


def test_without_a_collector_or_a_spool_nothing_is_done():
    report = sample_report("healthy")
    assert deliver(report) == []
    assert report["delivery"] == []


def test_without_a_collector_every_report_is_kept(tmp_path: Path):
    report = sample_report("healthy")
    deliver(report, spool=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


def test_the_next_run_delivers_what_waits_the_oldest_first(world: World, tmp_path: Path):
    waiting = [sample_report("healthy") for _ in range(3)]
    for age, report in enumerate(waiting):
        deliver(report, collector=NOWHERE, spool=str(tmp_path))
        os.utime(tmp_path / (report["report_id"] + ".json"), (1e9 - age, 1e9 - age))
    newest = sample_report("healthy")
    told = deliver(newest, collector=f"{world.plain}/201/again", spool=str(tmp_path))
    order = [row["report_id"] for row in world.received() if row["path"].startswith("/again")]
    assert order == [report["report_id"] for report in (newest, *reversed(waiting))]
    assert list(tmp_path.iterdir()) == []
    assert told[1] == "of earlier reports: 3 delivered, 0 refused, 0 still wait"


def test_a_report_that_is_refused_for_ever_does_not_stand_before_the_others(world: World, tmp_path: Path):
    waiting = sample_report("healthy")
    deliver(waiting, spool=str(tmp_path))
    deliver(sample_report("healthy"), collector=f"{world.plain}/201,422/x", spool=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [waiting["report_id"] + ".json.refused"]


def test_what_waits_goes_on_waiting_when_the_collector_fails_again(world: World, tmp_path: Path):
    for _ in range(3):
        deliver(sample_report("healthy"), spool=str(tmp_path))
    before = len(world.received())
    report = sample_report("healthy")
    deliver(report, collector=f"{world.plain}/201,500", spool=str(tmp_path))
    assert len(list(tmp_path.glob("*.json"))) == 3
    assert len(world.received()) - before == 2
    assert "3 still wait" in report["delivery"][-1]["message"]


def test_what_another_run_delivers_meanwhile_does_not_stop_this_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    waiting = sample_report("healthy")
    deliver(waiting, spool=str(tmp_path))
    [path] = spool.waiting(str(tmp_path))
    monkeypatch.setattr(spool, "waiting", lambda _folder: [str(tmp_path / "gone.json"), path])
    told = deliver(sample_report("healthy"), collector=f"{world.plain}/201", spool=str(tmp_path))
    assert told[1] == "of earlier reports: 2 delivered, 0 refused, 0 still wait"
    assert waiting["report_id"] in [row["report_id"] for row in world.received()]
    assert list(tmp_path.iterdir()) == []


# --- addresses ---


@pytest.mark.parametrize("url", ["http://[::1", "http://", "file:///etc/passwd", "collector.example", "http://h:99999"])
def test_a_bad_address_is_a_failure_and_no_crash(url: str, tmp_path: Path):
    report = sample_report("healthy")
    deliver(report, collector=url, spool=str(tmp_path))
    [sent, _] = report["delivery"]
    assert (sent["status"], sent["reason"]) == ("fail", "network_unreachable")


@pytest.mark.parametrize(
    ("no_proxy", "bypassed"),
    [
        ("", False), ("*", True), ("c.example.org", True), ("example.org", True), (".example.org", True),
        ("*.example.org", True), ("xample.org", False), ("other.org, c.example.org", True), ("c.example.org:443", True),
        ("c.example.org:80", False), ("EXAMPLE.ORG", True), ("org.example", False),
    ],
)  # fmt: skip
def test_whom_no_proxy_names(no_proxy: str, bypassed: bool):
    assert posting.is_bypassed("c.example.org", 443, no_proxy) is bypassed


@pytest.mark.parametrize(
    ("environment", "proxy_url", "ways"),
    [
        ({}, None, [None]),
        ({}, "None", [None]),
        ({}, "OSG", [None]),
        ({}, "http://a:3128|http://b:3128;DIRECT", ["http://a:3128", "http://b:3128", None]),
        ({}, "a|b|c|d|e", ["a", "b", "c", None]),
        ({"https_proxy": "e:1"}, "http://a:3128", ["e:1"]),
        ({"HTTPS_PROXY": "e:1"}, None, ["e:1"]),
        ({"http_proxy": "e:1"}, None, [None]),
        ({"all_proxy": "e:1"}, None, ["e:1"]),
        ({"https_proxy": "e:1", "NO_PROXY": "c"}, "http://a:3128", [None]),
    ],
)
def test_the_ways_to_a_collector(environment: dict[str, str], proxy_url: str | None, ways: list[str | None]):
    assert posting.routes("https://c", environment, proxy_url) == ways


def test_an_attempt_becomes_a_row_of_the_report():
    row = Delivered("http", "https://c", "fail", "token_refused", "HTTP 401", 3.0, "http://user:pass@proxy").row()
    assert row.pop("at").endswith("Z")
    assert row == {
        "way": "http", "target": "https://c", "status": "fail", "reason": "token_refused", "message": "HTTP 401",
    }  # fmt: skip


def test_neither_password_nor_query_of_the_collectors_url_is_told(tmp_path: Path):
    given = settings(collector=f"ftp://user:{SECRET}@c.example/x?token={SECRET}", spool=str(tmp_path))
    report = sample_report("healthy", delivery=[])
    told = delivery.deliver(given, report, {})
    assert report["delivery"][0]["target"] == "ftp://c.example/x"
    assert SECRET not in json.dumps([told, report])
