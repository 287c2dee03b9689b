"""What pages say, their states, and what hostile reports do to them: nothing. In a real browser: tests/browser."""

import csv
import gzip
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import orjson
import pytest

from reports.authorization import Caller, OpenAuthorizer, Refused
from reports.collector import create_app
from reports.pages.links import PATHS
from site_db.store import Store, Submission
from tests.reports.conftest import ANY_AGE, RunServer, running
from tests.sample_reports import gpu_device, image, sample_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\" 'onx=\u202e{{7*7}}\x07/.."
LONG = "=HYPERLINK(\"x\")" + "\u2067w" * 5_000
PLAIN_PAGES = [path for path in PATHS.values() if not path.endswith("/")]


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


def add(store: Store, *reports: dict) -> None:
    now = datetime.now(UTC)
    for number, report in enumerate(reports):
        report["created_at"] = (now - timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    store.add([Submission(report, orjson.dumps(report), now) for report in reports])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A collector over reports of four sites: one healthy, one broken, two hostile (past what the schema lets in)."""
    hostile = sample_report("pid_masked", host__hostname=HOSTILE, host__machine_id="a" * 32)
    hostile["images"] = [image(HOSTILE), image(LONG)]
    hostile["glidein"].update(dict.fromkeys(("site", "entry", "factory", "resource"), HOSTILE))
    hostile["singularity"].update(message=HOSTILE, version=HOSTILE, product=HOSTILE, command=HOSTILE)
    hostile["gpus"]["devices"] = [gpu_device("GPU-1", HOSTILE)]
    hostile["cvmfs"]["repositories"][0]["name"] = HOSTILE
    check = hostile["singularity"]["modes"]["unprivileged"]
    hostile["checks"] = [{**check, "id": HOSTILE, "message": HOSTILE, "remedy": LONG, "evidence": {"command": HOSTILE}}]
    endless = sample_report(host__machine_id="f" * 32, host__hostname=LONG)
    endless["glidein"].update(dict.fromkeys(("site", "entry"), LONG))
    broken = sample_report("pid_masked", host__machine_id="b" * 32, glidein__site="Broken", glidein__entry="Broken_CE")
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('pages') / 'site.db'}")
    add(store, sample_report(), hostile, endless, broken)
    with running(create_app(store, ANY_AGE)) as url, httpx.Client(base_url=url, timeout=20) as opened:
        yield opened
    store.close()


def addresses(path: str) -> list[str]:
    """The page at a path, for a kind with names that of the hostile report."""
    hostile = quote(HOSTILE, safe="")
    names = {"nodes/": "a" * 32, "reasons/": "proc_masked", "entries/": f"{hostile}%40{hostile}"}
    return [f"/{path}{names.get(path, hostile)}" if path.endswith("/") else f"/{path}"]


@pytest.mark.parametrize("kind", [kind for kind in PATHS if kind not in ("static", "plot", "drift_of")])
def test_a_hostile_report_shows_harmlessly_on_every_page(pages: httpx.Client, kind: str):
    for address in addresses(PATHS[kind]):
        answer = pages.get(address)
        assert answer.status_code == 200, address
        found = Elements(answer.text)
        assert found.tags.count("script") == 1  # our own
        assert not [name for name, _ in found.attributes if name.startswith("on")]
        links = [value for name, value in found.attributes if name in ("href", "src")]
        assert not [link for link in links if not link.startswith(("/", "#", "?"))]
        assert "\u202e" not in answer.text
        assert "\u2067" not in answer.text
        assert "\x07" not in answer.text
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'; img-src")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_hostile_texts_are_seen_as_what_they_are(pages: httpx.Client):
    page = pages.get("/").text
    assert "&lt;script&gt;" in page
    assert "\\u202e{{7*7}}" in page


@pytest.mark.parametrize("path", PLAIN_PAGES)
def test_every_table_is_csv_without_formulas_and_json(pages: httpx.Client, path: str):
    names = set(re.findall(r"table=(\w+)&amp;format=csv", pages.get(f"/{path}").text))
    for name in names:
        answer = pages.get(f"/{path}", params={"table": name, "format": "csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        rows = list(csv.reader(io.StringIO(answer.text)))
        assert len(rows) > 1
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@"))]
        found = pages.get(f"/{path}", params={"table": name, "format": "json"}).json()
        assert found["table"] == name
        assert len(found["rows"]) == len(rows) - 1
        assert list(found["rows"][0]) == rows[0]
        assert "\u2067" not in answer.text


def test_a_long_name_is_cut_in_tables(pages: httpx.Client):
    page = pages.get("/").text
    assert "w\\u2067w" in page
    assert len(page) < 40_000


def column(pages: httpx.Client, query: str, name: str) -> list[object]:
    return [row[name] for row in pages.get(f"/?format=json&{query}").json()["rows"]]


def test_rows_are_sorted_by_the_address_and_the_unknown_comes_last(pages: httpx.Client):
    assert column(pages, "sort=singularity", "singularity") == [0.0, 0.0, 1.0, 1.0]
    assert column(pages, "sort=-singularity", "singularity") == [1.0, 1.0, 0.0, 0.0]
    assert column(pages, "sort=-site", "site")[-1].startswith("<script>")  # type: ignore[attr-defined]  # a name


@pytest.mark.parametrize(
    ("query", "sites"),
    [
        ("q=broken", ["Broken"]),
        ("answer=no&q=rok", ["Broken"]),
        ("answer=trouble&capability=pid_namespace&q=bro", ["Broken"]),
        ("answer=yes&q=t2", ["Example-T2"]),
        ("factory=factory.example.org&answer=yes&q=T2", ["Example-T2"]),
        ("factory=another", []),
        ("region=XX", []),
    ],
)
def test_filters_choose_rows(pages: httpx.Client, query: str, sites: list[str]):
    assert column(pages, query, "site") == sites


WRONG = ["sort=nothing", "rows=0", "rows=x", "page=-1", "answer=perhaps", "table=x&format=csv", "format=xml"]


@pytest.mark.parametrize("query", WRONG)
def test_a_state_that_a_page_has_not_is_said_in_words(pages: httpx.Client, query: str):
    answer = pages.get(f"/?{query}")
    assert answer.status_code == 400
    assert "This cannot be answered" in answer.text


def test_a_name_that_is_not_there_is_said_with_what_is_near(pages: httpx.Client):
    answer = pages.get("/sites/Brocken")
    assert answer.status_code == 404
    assert "Did you mean: Broken?" in answer.text


def test_rows_come_in_portions(pages: httpx.Client):
    first = pages.get("/?rows=3&sort=site").text
    assert "1–3 of 4" in first  # noqa: RUF001 - the dash of ranges
    assert "rows=3&amp;sort=site&amp;page=2" in first or "sort=site&amp;rows=3&amp;page=2" in first
    assert "4–4 of 4" in pages.get("/?rows=3&page=2").text  # noqa: RUF001 - likewise


def test_a_site_tells_why_and_what_to_do(pages: httpx.Client):
    page = pages.get("/sites/Broken").text
    assert "What does not work, and why" in page
    assert "/reasons/proc_masked" in page
    assert "<b>The factory can:</b> Set SINGULARITY_DISABLE_PID_NAMESPACES=1" in page


def test_an_entry_explains_one_verdict_and_proposes(pages: httpx.Client):
    page = pages.get("/entries/Broken_CE?why=singularity").text
    assert "Why: Singularity as the factory starts it" in page
    assert "SINGULARITY_DISABLE_PID_NAMESPACES" in page
    assert "&lt;attr name=&#34;" in page


def test_a_node_shows_its_last_report(pages: httpx.Client):
    page = pages.get("/nodes/" + "b" * 32).text
    assert "Containers do not work" in page
    assert "SINGULARITY_DISABLE_PID_NAMESPACES=1" in page


def test_a_reason_names_the_entries_where_it_occurs(pages: httpx.Client):
    rows = pages.get("/reasons/proc_masked?format=json").json()["rows"]
    assert "Broken_CE" in [row["entry"] for row in rows]
    assert all(row["failing"] == 1 for row in rows)


@pytest.mark.parametrize("name", ["shares", "versions", "modes", "latency", "gpus"])
def test_a_plot_is_a_picture_without_scripts(pages: httpx.Client, name: str):
    answer = pages.get(f"/plots/{name}.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "<script" not in answer.text
    assert "\u202e" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    found = Elements(answer.text)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name.endswith("href")]


@pytest.mark.parametrize(
    ("begin", "found"), [("<script>", ["a" * 32]), ("=HYPER", ["f" * 32]), ("%", []), ("_", []), ("/", [])]
)
def test_nodes_are_found_by_the_begin_of_their_name(pages: httpx.Client, begin: str, found: list[str]):
    rows = pages.get("/nodes", params={"begins": begin, "format": "json"}).json()["rows"]
    assert [row["machine_id"] for row in rows] == found


def test_nodes_come_in_portions(pages: httpx.Client):
    first = pages.get("/nodes?rows=2").text
    after = re.search(r'nodes\?(after=\w+&amp;rows=2)"', first)
    assert after is not None
    pages_of_nodes = [first, pages.get("/nodes?" + after[1].replace("&amp;", "&")).text]
    assert [text.count('<th scope="row"') for text in pages_of_nodes] == [2, 2]
    assert "The nodes that follow" not in pages_of_nodes[1]


def test_what_is_no_plot_or_style_is_not_found(pages: httpx.Client):
    assert pages.get("/plots/x.svg").status_code == 404
    assert pages.get("/static/..%2Fcollector.py").status_code == 404
    assert pages.get("/static/site.css").headers["content-type"] == "text/css; charset=utf-8"


def test_pages_come_compressed_to_those_who_take_it(pages: httpx.Client):
    with pages.stream("GET", "/", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert gzip.decompress(raw).startswith(b"<!DOCTYPE html>")
    assert "content-encoding" not in pages.get("/", headers={"Accept-Encoding": "identity"}).headers


FIRST_STEPS = {
    "singularity-probe run &gt; report.json": ["", "entries", "nodes", "trends"],
    "site-db entries import FILE": ["drift"],
    "site-db images import FILE": ["images", "coverage", "pick"],
}


def test_an_empty_centre_says_how_to_begin(client: httpx.Client):
    for path in PLAIN_PAGES:
        assert client.get(f"/{path}").status_code == 200, path
    for step, paths in FIRST_STEPS.items():
        assert [path for path in paths if step not in client.get(f"/{path}").text] == []


def test_a_page_loads_nothing_from_elsewhere(client: httpx.Client):
    for path in PLAIN_PAGES:
        page = client.get(f"/{path}").text
        assert "http://" not in page
        assert "https://" not in page


class NoReader(OpenAuthorizer):
    """Lets nobody read."""

    async def reader(self, caller: Caller) -> None:  # noqa: ARG002 - the protocol's shape
        raise Refused(401, "who are you?", "no_token")


def test_who_may_not_read_sees_no_page(store: Store, run_server: RunServer):
    app = create_app(store, ANY_AGE, NoReader())
    with run_server(app) as url, httpx.Client(base_url=url, timeout=20) as client:
        for kind, path in PATHS.items():
            answer = client.get(f"/{path}x" if path.endswith("/") else f"/{path}")
            assert answer.status_code == (404 if kind == "static" else 401), path
        assert client.get("/static/site.css").status_code == 200
