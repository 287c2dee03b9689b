"""The site report as files: complete without a server, harmless whatever the reports said."""

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from reports.cli import cli
from reports.pages import exporting
from site_db.store import Store
from tests.reports.test_pages import HOSTILE, LONG, Elements, add
from tests.sample_reports import sample_report


@pytest.fixture
def database(tmp_path: Path, store: Store) -> str:
    hostile = sample_report("pid_masked", host__machine_id="a" * 32, host__hostname=HOSTILE)
    hostile["glidein"].update(dict.fromkeys(("site", "entry", "factory", "resource"), HOSTILE))
    endless = sample_report(host__machine_id="f" * 32)
    endless["glidein"].update(dict.fromkeys(("site", "entry"), LONG))
    add(store, sample_report(), hostile, endless)
    return f"sqlite:///{tmp_path / 'site.db'}"


def run(database: str, *arguments: object) -> str:
    done = CliRunner().invoke(cli, ["--database", database, "export", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_folder_holds_all_that_its_pages_link_to(database: str, tmp_path: Path):
    folder = tmp_path / "public"
    run(database, "site", folder)
    pages = sorted(folder.rglob("*.html"))
    assert len([page for page in pages if page.parent.name == "site"]) == 3
    for page in pages:
        found = Elements(page.read_text(encoding="utf-8"))
        assert found.tags.count("script") == 1
        assert "form" not in found.tags
        assert not [name for name, _ in found.attributes if name.startswith("on")]
        for name, value in found.attributes:
            if name in ("href", "src") and not value.startswith("#"):
                assert (page.parent / unquote(value)).resolve().is_file(), f"{page}: {value}"
    assert max(len(PurePosixPath(page).name) for page in pages) < 100
    assert (folder / "data/sites-sites.csv").read_text(encoding="utf-8").startswith("site,entries,nodes,")
    assert b'"table":"entries"' in (folder / "data/entries-entries.json").read_bytes()


def test_an_export_replaces_an_earlier_one_and_nothing_else(database: str, tmp_path: Path):
    folder = tmp_path / "public"
    run(database, "site", folder)
    (folder / "old.html").touch()
    run(database, "site", folder)
    assert not (folder / "old.html").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").touch()
    done = CliRunner().invoke(cli, ["--database", database, "export", "site", str(mine)])
    assert done.exit_code == 1
    assert "is no earlier export" in done.output
    assert (mine / "letter").exists()


def test_one_file_holds_everything(database: str, tmp_path: Path):
    file = tmp_path / "report.html"
    run(database, "page", file)
    text = file.read_text(encoding="utf-8")
    found = Elements(text)
    ids = [value for name, value in found.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for name, value in found.attributes:
        assert name != "src" or value.startswith("data:image/svg+xml;base64,")
        assert name != "href" or value[1:] in ids, value
    assert found.tags.count("script") == 1
    assert "\u202e" not in text
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text


def test_one_site_alone(database: str, tmp_path: Path):
    file = tmp_path / "example.html"
    run(database, "page", file, "--site", "Example-T2")
    assert "Entries by capability" in file.read_text(encoding="utf-8")
    done = CliRunner().invoke(cli, ["--database", database, "export", "page", str(file), "--site", "none"])
    assert done.exit_code == 1
    assert "No site" in done.output


def test_a_place_that_cannot_be_written_is_said(database: str, tmp_path: Path):
    (tmp_path / "file").touch()
    done = CliRunner().invoke(cli, ["--database", database, "export", "page", str(tmp_path / "file" / "x.html")])
    assert done.exit_code == 1
    assert "cannot be written" in done.output


def test_processes_that_share_the_work_write_the_same_pages(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    moment = datetime.now(UTC)
    monkeypatch.setattr("reports.export_commands.utc_now", lambda: moment)
    run(database, "site", tmp_path / "alone")
    monkeypatch.setattr(exporting, "_PAGES_WORTH_A_PROCESS", 20)
    monkeypatch.setattr(exporting.os, "sched_getaffinity", lambda _process: {0, 1})
    run(database, "site", tmp_path / "shared")

    def pages(folder: Path) -> dict[str, bytes]:
        found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".svg"]  # pygal numbers its plots
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    alone, shared = pages(tmp_path / "alone"), pages(tmp_path / "shared")
    assert alone.keys() == shared.keys()
    assert [name for name in alone if alone[name] != shared[name]] == []
