from collections.abc import Callable

import httpx
import orjson
import pytest

from site_db import views
from tests.sample_reports import sample_report

NDJSON = {"content-type": "application/x-ndjson"}


@pytest.fixture
def filled(client: httpx.Client) -> httpx.Client:
    reports = [sample_report(host__machine_id=f"{n:032x}", host__hostname=f"wn{n}") for n in range(1, 6)]
    other = sample_report(glidein__factory="other.example.org", host__machine_id="f" * 32)
    batch = b"\n".join(orjson.dumps(report) for report in [*reports, other])
    assert client.post("/api/v1/reports", content=batch, headers=NDJSON).status_code == 200
    return client


@pytest.mark.parametrize(
    ("path", "telling"),
    [
        ("sites", lambda answer: [site["name"] for site in answer["sites"]] == ["Example-T2"]),
        ("sites/Example-T2", lambda answer: answer["freshness"]["nodes_ever"] == 6),
        ("entries", lambda answer: {entry["factory"] for entry in answer["entries"]} >= {"other.example.org"}),
        ("entries/Example_T2_CE1@other.example.org", lambda answer: answer["freshness"]["nodes_ever"] == 1),
        ("nodes/wn3", lambda answer: answer["machine_id"] == f"{3:032x}"),
        (f"nodes/{3:032x}", lambda answer: answer["hostname"] == "wn3"),
    ],
)
def test_questions_are_answered(filled: httpx.Client, path: str, telling: Callable[[object], bool]):
    answer = filled.get(f"/api/v1/{path}")
    assert answer.status_code == 200
    assert telling(answer.json())


def test_a_name_of_several_entries_is_409_and_names_them(filled: httpx.Client):
    answer = filled.get("/api/v1/entries/Example_T2_CE1")
    assert answer.status_code == 409
    assert "Example_T2_CE1@other.example.org" in answer.json()["detail"]


def test_nodes_come_in_pages_that_miss_none(filled: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(views, "NODES_A_PAGE", 4)
    first = filled.get("/api/v1/nodes").json()
    second = filled.get("/api/v1/nodes", params={"after": first["next"]}).json()
    ids = [node["machine_id"] for node in first["nodes"] + second["nodes"]]
    assert ids == [*(f"{n:032x}" for n in range(1, 6)), "f" * 32]
    assert second["next"] is None


def test_a_hostile_place_in_the_list_of_nodes_is_harmless(filled: httpx.Client):
    assert filled.get("/api/v1/nodes", params={"after": "\x00\ud7ff'"}).status_code == 200
