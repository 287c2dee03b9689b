"""Changes on their way out: the API, the feed, a command that is told once."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pytest
from click.testing import CliRunner

from reports.cli import cli
from reports.telling import NotTold, by_command, by_webhook, tell_all
from site_db.changes_views import untold_changes
from site_db.store import Store
from tests.site_db.submissions import sample, submission

NOW = datetime.now(UTC)
HOSTILE = "<b>&]]>\ufffe"


@pytest.fixture
def changed(store: Store) -> Store:
    for hours_ago, case in ((50, "healthy"), (40, "healthy"), (30, "healthy"), (20, "healthy"), (10, "no_runtime")):
        for node in range(1, 9):
            made = NOW - timedelta(hours=hours_ago - node / 60)
            item = sample(case, node=node, created_at=made.strftime("%Y-%m-%dT%H:%M:%SZ"), glidein__entry=HOSTILE)
            store.add([submission(item.report, NOW)])
    return store


@pytest.mark.usefixtures("changed")
def test_the_api_lists_changes(client: httpx.Client) -> None:
    [change] = client.get("/api/v1/changes").json()["changes"]
    assert (change["entry"], change["direction"], change["state"]) == (HOSTILE, "lost", "confirmed")
    for query, found in (({"since": "2000-01-01"}, 1), ({"since": "2999-01-01T00:00:00Z"}, 0), ({"site": "Other"}, 0)):
        assert len(client.get("/api/v1/changes", params=query).json()["changes"]) == found
    assert client.get("/api/v1/changes", params={"since": "yesterday"}).status_code == 400


@pytest.mark.usefixtures("changed")
def test_the_feed_is_well_formed_whatever_an_entry_is_called(client: httpx.Client) -> None:
    answer = client.get("/changes.atom")
    assert answer.headers["content-type"].startswith("application/atom+xml")
    feed = ElementTree.fromstring(answer.content)
    [title] = feed.findall("{*}entry/{*}title")
    assert title.text == "<b>&]]>\ufffd lost singularity (confirmed)"


def test_a_command_gets_each_change_once_and_again_after_it_failed(changed: Store, tmp_path: Path) -> None:
    with pytest.raises(NotTold, match="false"):
        tell_all(changed, [by_command("false")], NOW)
    told = tmp_path / "told.json"
    assert len(tell_all(changed, [by_command(f"tee {told}")], NOW)) == 1
    assert json.loads(told.read_text())["capability"] == "singularity"
    assert tell_all(changed, [by_command("false")], NOW) == []


def test_a_webhook_that_does_not_answer_leaves_the_change_untold(changed: Store) -> None:
    with pytest.raises(NotTold):
        tell_all(changed, [by_webhook("http://127.0.0.1:9/")], NOW)
    assert len(untold_changes(changed)) == 1


def test_an_error_of_a_webhook_does_not_tell_its_address(changed: Store) -> None:
    with pytest.raises(NotTold, match="ConnectionError") as raised:
        tell_all(changed, [by_webhook("http://127.0.0.1:9/services/T0/SECRET")], NOW)
    assert "SECRET" not in f"{raised.value}{raised.value.remedy}"
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("line", ["a 'b", "", "  "])
def test_a_command_that_is_none_is_wrong_use(line: str) -> None:
    result = CliRunner().invoke(cli, ["changes", "--call", line])
    assert result.exit_code == 2
    assert "give a command" in result.output
