"""The documentation as a site: it builds strictly, loads nothing from elsewhere, and has every page and every name."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from reports.cli import cli

ROOT = Path(__file__).parents[1]
# Attributes of what a browser fetches by itself, unlike the href of an anchor.
FETCHED = {
    ("link", "href"),
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("form", "action"),
}


class Page(HTMLParser):
    """What a page fetches, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if (tag, name) in FETCHED]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run([sys.executable, ROOT / "scripts/build-docs", folder], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {path.stem: Page(path.read_text(encoding="utf-8")) for path in site.glob("*.html")}


def test_every_page_is_in_the_site_and_in_its_navigation(pages: dict[str, Page]):
    sources = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert sources <= set(pages)
    navigation = (ROOT / "docs/index.md").read_text(encoding="utf-8").splitlines()
    assert sources - {"index"} <= set(navigation)


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Page]):
    fetched = {address for page in pages.values() for address in page.fetched}
    assert len(fetched) > 5
    assert [address for address in fetched if re.match(r"[a-z]+:|//", address)] == []
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        found = re.findall(r"url\(\s*['\"]?([^)'\"]*)|@import\s+['\"]([^'\"]*)", text)
        assert [one for pair in found for one in pair if re.match(r"(https?:)?//", one)] == [], sheet.name


def leaves(group: click.Group, words: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{words}{name} ")
        else:
            yield f"{words}{name}"


def test_every_command_has_an_anchor_of_its_own(site: Path):
    cli.load_all()
    text = (site / "site-db.html").read_text(encoding="utf-8")
    anchors = set(re.findall(r'id="(site-db-[^"]*)"', text))
    for words in leaves(cli):
        wanted = "site-db-" + words.replace(" ", "-")
        assert any(anchor == wanted or anchor.startswith(wanted + "-") for anchor in anchors), words


def test_words_in_code_of_pages_for_people_name_commands_that_exist():
    """Of each `site-db WORDS` in the how-to pages and README, the words lead to a command."""
    cli.load_all()
    known = set(leaves(cli))
    wrong = []
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for line in re.findall(
            r"(?:^ {4,}|\| |`)site-db (?:--format \w+ )?([a-z][a-z -]*)", path.read_text(), re.MULTILINE
        ):
            words = line.split(" -")[0].split()
            if not any(" ".join(words[:count]) in known for count in range(1, 4)) and words[0] not in cli.commands:
                wrong.append(f"{path.name}: site-db {line}")
    assert wrong == []


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("changes.md", "\n[gone](no-such-page.md)\n"),
        ("changes.md", "\n[gone](site-db.md#no-such-heading)\n"),
        ("orphan.md", "# A page without a place\n"),
    ],
    ids=["page", "heading", "navigation"],
)
def test_a_broken_link_or_a_page_without_a_place_fails_the_build(tmp_path: Path, page: str, text: str):
    """On a small copy: two pages, and the same settings."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("conf.py", "changes.md", "site-db.md"):
        shutil.copy(ROOT / "docs" / name, docs)
    (docs / "site-theme").mkdir()
    shutil.copytree(
        ROOT / "probe",
        tmp_path / "probe",
        ignore=lambda _, names: [n for n in names if n != "version.py" and n != "__init__.py"],
    )
    (docs / "index.md").write_text("# Index\n\n```{toctree}\nchanges\nsite-db\n```\n", encoding="utf-8")
    for name in ("changes.md", "site-db.md"):
        kept = re.sub(r"\]\([^)]*\)", "]", (docs / name).read_text(encoding="utf-8"))
        (docs / name).write_text(kept, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "dummy", str(docs), str(tmp_path / "out")]
    with (docs / page).open("a", encoding="utf-8") as opened:
        opened.write(text)
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode != 0
    assert page in built.stderr
