"""Debian's Chromium against a real collector with a fleet of 1,058 entries."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from playwright.sync_api import Browser, Page, Request, sync_playwright

from reports.cli import cli
from reports.collector import create_app
from site_db.store import Store
from tests.reports.conftest import ANY_AGE, running
from tests.shared_data import shared_data

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = ROOT / "test-output/screenshots"
ENTRIES = 1058
# Nothing that it does by itself: a closed network is to stay quiet.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Many entries with a node or two, and some with changes: a dense story of three weeks for all would take minutes.
FLEETS = (
    ["--entries", str(ENTRIES), "--most-nodes", "2", "--days", "3", "--reports-a-day", "1.2", "--regressions", "0"],
    ["--entries", "12", "--most-nodes", "10", "--days", "10", "--reports-a-day", "2", "--regressions", "6"],
)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database with all of them."""
    url = f"sqlite:///{tmp_path_factory.mktemp('fleet') / 'site.db'}"
    for options in FLEETS:
        program = [sys.executable, str(ROOT / "scripts/simulate-fleet"), "--database", url, *options]
        subprocess.run(program, check=True, capture_output=True, timeout=300)
    for command, data in (("entries", "factory"), ("images", "images/docker_images.txt")):
        done = CliRunner().invoke(cli, ["--database", url, command, "import", str(shared_data(data))])
        assert done.exit_code == 0, done.output
    return url


@pytest.fixture(scope="session")
def centre(fleet: str) -> Iterator[str]:
    """The URL of a collector over the fleet."""
    store = Store.open(fleet)
    with running(create_app(store, ANY_AGE)) as url:
        yield url
    store.close()


# Not for the session: while it is open, Playwright's event loop runs in the thread of the tests, those of others too.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: apt-get install chromium")
    # Chromium looks for a session bus otherwise, and complains.
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = "disabled:"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield opened
        opened.close()


class Watched:
    """A tab of the browser, with all that went wrong in it."""

    def __init__(self, page: Page, home: str) -> None:
        self.page = page
        self.home = home
        self.complaints: list[str] = []
        self.outside: list[str] = []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.home, "data:")):
            self.outside.append(request.url)

    def open(self, path: str) -> Page:
        answer = self.page.goto(self.home + path)
        assert answer is not None
        assert answer.status == 200, path
        return self.page

    def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def tab(browser: Browser, centre: str) -> Iterator[Watched]:
    """One tab; at its end nobody complained, and nothing was asked of anybody else."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    watched = Watched(context.new_page(), centre)
    yield watched
    context.close()
    assert watched.complaints == []
    assert watched.outside == []
