"""Ways out for a report, against a real HTTP server on loopback and real folders."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe import delivery
from tests.probe.samples import settings
from tests.sample_reports import sample_report

REPORT = sample_report("healthy")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The stand-in's URL; a program of its own, because delivery forks and a thread beside it would not be wise."""
    program = Path(__file__).with_name("collector_standin.py")
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize(
    ("answer", "status", "reason", "message"),
    [
        ("201", "ok", None, "stored"),
        ("200", "ok", None, "known already"),
        ("401", "fail", "token_refused", "HTTP 401: "),
        ("403", "fail", "token_refused", "HTTP 403: "),
        ("422", "fail", "report_refused", "HTTP 422: "),
        ("413", "fail", "report_refused", "HTTP 413: "),
        ("404", "fail", "report_refused", "HTTP 404: "),
        ("500", "fail", None, "HTTP 500: "),
        ("503", "fail", None, "HTTP 503: "),
    ],
)
def test_the_collectors_answer_is_told(server: str, answer: str, status: str, reason: str | None, message: str):
    sent = delivery.send(settings(collector=f"{server}/{answer}"), REPORT)
    assert sent is not None
    assert (sent.way, sent.target, sent.status) == ("http", f"{server}/{answer}", status)
    assert (sent.message or "").startswith(message)
    if reason or status == "ok":
        assert sent.reason == reason


@pytest.mark.parametrize("answer", ["500", "502", "503", "429"])
def test_a_collector_in_trouble_is_not_said_to_refuse_the_report(server: str, answer: str):
    """ "report_refused" tells people to look at the report; here it is the collector that needs a look."""
    sent = delivery.send(settings(collector=f"{server}/{answer}"), REPORT)
    assert sent is not None
    assert sent.reason not in ("report_refused", "token_refused", None)


def test_the_report_goes_compressed_with_its_token_to_the_collectors_path(server: str, tmp_path: Path):
    (tmp_path / "token").write_text("abc.def.ghi\n")
    sent = delivery.send(settings(collector=f"{server}/422/", token_file=str(tmp_path / "token")), REPORT)
    assert sent is not None
    assert json.loads((sent.message or "").removeprefix("HTTP 422: ")) == {
        "path": "/api/v1/reports",
        "authorization": "Bearer abc.def.ghi",
        "type": "application/json",
        "report_id": REPORT["report_id"],
    }


@pytest.mark.parametrize("answer", ["hang", "drip"])
def test_a_collector_that_hangs_costs_its_limit_and_no_more(monkeypatch: pytest.MonkeyPatch, server: str, answer: str):
    monkeypatch.setattr(delivery, "SEND_LIMIT_S", 0.3)
    started = time.monotonic()
    sent = delivery.send(settings(collector=f"{server}/{answer}"), REPORT)
    assert time.monotonic() - started < 3
    assert sent is not None
    if answer == "hang":
        assert sent.status in ("fail", "timeout")
        assert sent.reason == "network_unreachable"


def test_a_refused_connection_is_told_in_words():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sent = delivery.send(settings(collector=f"http://127.0.0.1:{port}"), REPORT)
    assert sent is not None
    assert (sent.status, sent.reason) == ("fail", "network_unreachable")
    assert "refused" in (sent.message or "")


@pytest.mark.parametrize(
    "url", ["http://no.such.host.invalid", "http://127.0.0.1:1/", "http://[::1", "http://", "http://a b/"]
)
def test_a_bad_address_is_a_failure_and_no_crash(url: str):
    sent = delivery.send(settings(collector=url), REPORT)
    assert sent is not None
    assert (sent.status, sent.reason) == ("fail", "network_unreachable")


@pytest.mark.parametrize("url", ["ftp://x", "file:///etc/passwd", "collector.example"])
def test_only_http_is_spoken(url: str):
    sent = delivery.send(settings(collector=url), REPORT)
    assert sent is not None
    assert (sent.status, sent.message) == ("fail", "not an http or https URL")


def test_a_missing_token_file_is_named(server: str, tmp_path: Path):
    sent = delivery.send(settings(collector=f"{server}/201", token_file=str(tmp_path / "no token")), REPORT)
    assert sent is not None
    assert sent.status == "fail"
    assert str(tmp_path / "no token") in (sent.message or "")


def test_a_token_with_a_line_end_inside_sends_no_header_of_its_own(server: str, tmp_path: Path):
    (tmp_path / "token").write_text("abc\r\nX-Evil: 1\n")
    sent = delivery.send(settings(collector=f"{server}/201", token_file=str(tmp_path / "token")), REPORT)
    assert sent is not None
    assert sent.status == "fail"
    assert "abc" not in (sent.message or "")


def test_without_a_collector_nothing_is_sent():
    assert delivery.send(settings(), REPORT) is None


def test_a_report_is_kept_whole_and_for_its_owner_only(tmp_path: Path):
    folder = tmp_path / "a/spool"
    kept = delivery.keep(str(folder), REPORT)
    path = folder / (REPORT["report_id"] + ".json")
    assert (kept.way, kept.status, kept.message) == ("spool", "ok", str(path))
    assert json.loads(path.read_text()) == REPORT
    assert list(folder.iterdir()) == [path]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_spool_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    kept = delivery.keep(str(tmp_path / "file"), REPORT)
    assert (kept.way, kept.status, kept.reason) == ("spool", "fail", "scratch_unusable")
    assert kept.message


def test_no_reader_of_a_spool_sees_half_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[list[str]] = []
    rename = os.rename

    def watch(source: str, target: str) -> None:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watch)
    delivery.spool(str(tmp_path), "id", "{}")
    assert seen == [["id.json.part"]]
    assert [path.name for path in tmp_path.iterdir()] == ["id.json"]


@pytest.mark.parametrize(
    ("spool", "glidein", "environment", "folder"),
    [
        ("/s", {"GLIDEIN_WORK_DIR": "/g"}, {"HOME": "/h"}, "/s"),
        (None, {"GLIDEIN_WORK_DIR": "/g"}, {"HOME": "/h"}, "/g/singularity-probe-spool"),
        (None, {}, {"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/singularity-probe/spool"),
        (None, {}, {"HOME": "/h"}, "/h/.local/state/singularity-probe/spool"),
    ],
)
def test_where_reports_wait(spool: str | None, glidein: dict[str, str], environment: dict[str, str], folder: str):
    assert delivery.spool_folder(settings(glidein, spool=spool), environment) == folder


def test_an_attempt_becomes_a_row_of_the_report():
    row = delivery.Delivered("http", "https://c", "fail", "token_refused", "HTTP 401").row()
    assert row["at"].endswith("Z")
    assert (row["way"], row["target"], row["status"], row["reason"], row["message"]) == (
        "http", "https://c", "fail", "token_refused", "HTTP 401",
    )  # fmt: skip
