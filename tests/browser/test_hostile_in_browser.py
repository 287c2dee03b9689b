"""Hostile reports in a real browser: what they wrote is text, on pages and in exports."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Dialog

from reports.cli import cli
from reports.collector import create_app
from site_db.store import Store, Submission
from site_db.times import parse_time
from tests.browser.conftest import Watched
from tests.reports.conftest import ANY_AGE, running
from tests.sample_reports import image, sample_report

ATTACK = "\"'><img src=x onerror=alert(1)><script>alert(2)</script></title></style><svg onload=alert(3)>\u202e\x1b[31m"
LONG = "W" * 10_000


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('hostile') / 'site.db'}"
    store = Store.open(url)
    for number, text in enumerate((ATTACK, LONG)):
        report = sample_report("pid_masked", host__machine_id=f"{number + 1:032x}", host__hostname=text, images=[image(text)])
        report["glidein"].update(dict.fromkeys(("site", "entry", "factory", "resource"), text))
        report["singularity"].update(message=text, version=text)
        now = parse_time("2026-11-20T12:00:00Z")
        assert now is not None
        store.add([Submission(report, orjson.dumps(report), now)])
    store.close()
    return url


@pytest.fixture(scope="module")
def home(database: str) -> Iterator[str]:
    store = Store.open(database)
    with running(create_app(store, ANY_AGE)) as url:
        yield url
    store.close()


@pytest.fixture
def tab(browser: Browser, home: str) -> Iterator[Watched]:
    context = browser.new_context()
    watched = Watched(context.new_page(), home)
    dialogs: list[str] = []

    def seen(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    watched.page.on("dialog", seen)
    yield watched
    context.close()
    assert dialogs == []
    assert watched.complaints == []
    assert watched.outside == []


def test_nothing_runs_and_nothing_is_loaded(tab: Watched):
    attack = quote(ATTACK, safe="")
    for path in ("/", "/entries", "/nodes", "/images", "/trends", "/reasons", f"/sites/{attack}", "/nodes/" + f"{1:032x}"):
        page = tab.open(path)
        assert page.locator("img[src=x], main script, main svg").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
    tab.open("/")
    tab.shoot("hostile")


@pytest.mark.parametrize("form", ["site", "page"])
def test_an_export_opens_from_the_disk(browser: Browser, database: str, tmp_path: Path, form: str):
    place = tmp_path / ("public" if form == "site" else "report.html")
    done = CliRunner().invoke(cli, ["--database", database, "export", form, str(place)])
    assert done.exit_code == 0, done.output
    context = browser.new_context()
    tab = Watched(context.new_page(), f"file://{tmp_path}")
    page = tab.page
    page.goto(f"file://{place / 'index.html' if form == 'site' else place}")
    assert page.locator("img[src=x], main svg").count() == 0
    header = page.locator("table[id$=sites] thead th").first
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    page.locator("table[id$=sites] tbody th a").first.click()
    assert "Entries by capability" in page.inner_text("main")
    tab.shoot(f"export-{form}")
    context.close()
    assert tab.complaints == tab.outside == []
