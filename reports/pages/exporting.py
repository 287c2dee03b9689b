"""The site report as files: a folder of pages for any web server or disk, or one file to mail. Neither needs a server."""

import base64
import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from markupsafe import Markup

from reports import plots
from reports.pages import rendering
from reports.pages.asked import Asked
from reports.pages.centre import Centre
from reports.pages.frozen import Frozen
from reports.pages.links import FileLinks, FolderLinks, anchor_of, file_of
from reports.pages.model import Facts, Figure, Grid, Group, Page, Target
from reports.pages.routes import PAGES
from site_db.errors import SiteDbError
from site_db.occurrences import list_occurrences
from site_db.reasons import all_reasons
from site_db.store import Store

# What stands without a name in a folder, and in a single file.
FOLDER_KINDS = ("sites", "entries", "changes", "drift", "images", "coverage", "reasons", "trends")
FILE_KINDS = ("sites", "changes", "drift", "reasons", "trends")
# A folder with this file in it was written by an export, and may be replaced by another.
_MARK = ".site-db-export"
_PLAIN = Asked()
# A process takes a second to start, and 150 MB.
_PROCESSES, _PAGES_WORTH_A_PROCESS = 4, 200
# More sites than these are told in short in a single file.
_IN_FULL = 20

Progress = Callable[[int, str], None]


class CannotExport(SiteDbError):
    """The place to write to is taken, or cannot be written."""


def folder_targets(centre: Centre) -> list[Target]:
    """Every page of an exported folder."""
    occurring = list_occurrences(centre.store, centre.now())
    names: Mapping[str, Iterable[str]] = {
        "site": [site.name for site in centre.sites().sites],
        "entry": [f"{entry.name}@{entry.factory}" for entry in centre.entries().entries],
        "reason": sorted({reason.code for reason in all_reasons()} | occurring.keys()),
    }
    return [
        *(Target(kind) for kind in FOLDER_KINDS),
        *(Target(kind, name) for kind, found in names.items() for name in found),
    ]


def write_folder(centre: Centre, folder: Path, targets: Sequence[Target], progress: Progress, url: str = "") -> int:
    """Write these pages; how many files there are. An earlier export in `folder` is replaced as a whole.

    With the database's `url` other processes share the work, if there is enough of it.
    Raises CannotExport, and leaves what was there.
    """
    _check(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as parent:
            fresh = Path(parent) / "fresh"
            fresh.mkdir(mode=0o755)
            _write_pages(centre, fresh, targets, progress, url)
            (fresh / _MARK).touch()
            files = sum(path.is_file() for path in fresh.rglob("*"))
            if folder.exists():
                folder.rename(Path(parent) / "old")
            fresh.rename(folder)
    except OSError as error:
        raise CannotExport(f"{folder} cannot be written: {error.strerror or error}.", "Choose another place.") from error
    return files


def _check(folder: Path) -> None:
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / _MARK).exists()):
        return
    if folder.exists() or folder.is_symlink():
        raise CannotExport(f"{folder} is there, and is no earlier export.", "Choose another folder, or remove it.")


def _write_pages(centre: Centre, folder: Path, targets: Sequence[Target], progress: Progress, url: str) -> None:
    statics = {PurePosixPath("static", name): body for name, (body, _) in rendering.static_files().items()}
    for name, body in statics.items():
        _write(folder / name, body)
    now = centre.now()
    frozen = Frozen(centre.store)
    centre = replace(centre, now=lambda: now, kept=frozen)
    pages = Pages(folder, frozenset({*map(file_of, targets), *statics}))
    lists, named = ([target for target in targets if (target.name is None) is is_list] for is_list in (True, False))
    for number, target in enumerate(lists):  # first: they ask what the others share
        progress(number, target.kind)
        pages.write(centre, target)
    processes = min(len(os.sched_getaffinity(0)), _PROCESSES, len(named) // _PAGES_WORTH_A_PROCESS) if url else 0
    shares = [named[first :: max(processes, 1)] for first in range(max(processes, 1))]
    with ProcessPoolExecutor(len(shares), get_context("spawn")) as pool:
        # A process starts when it is given something: with a single share none does.
        others = [pool.submit(_write_share, url, now, frozen.answers.copy(), pages, share) for share in shares[1:]]
        for number, target in enumerate(shares[0]):
            progress(len(lists) + number * len(shares), target.name or target.kind)
            pages.write(centre, target)
        for other in others:
            other.result()


def _write_share(
    url: str, now: datetime, answers: "OrderedDict[Hashable, Any]", pages: "Pages", targets: Sequence[Target]
) -> None:
    """What another process does: it has the answers that pages share, and a connection of its own."""
    store = Store.open(url)
    try:
        centre = Centre(store, lambda: now, Frozen(store, answers))
        for target in targets:
            pages.write(centre, target)
    finally:
        store.close()


class Pages(NamedTuple):
    """Where pages are written to, and all files that they may link to."""

    folder: Path
    there: frozenset[PurePosixPath]

    def write(self, centre: Centre, target: Target) -> None:
        """Make one page and write it, with its pictures and, for a list, its tables."""
        here, page = file_of(target), make(centre, target)
        pictures = {}
        for figure in _figures(page):
            picture = PurePosixPath("plot", f"{here.stem}-{figure.name}.svg")
            _write(self.folder / picture, plots.draw(figure))
            pictures[figure.name] = "../" * (len(here.parts) - 1) + str(picture)
        tables = "" if target.name else f"data/{target.kind}-"
        links = FolderLinks(here, self.there)
        text = rendering.html(page, _PLAIN, links, pictures=pictures, data_files=tables)
        _write(self.folder / here, text.encode())
        for grid in page.grids().values() if tables else ():
            _write(self.folder / f"{tables}{grid.name}.csv", rendering.csv_text(grid, _PLAIN).encode())
            _write(self.folder / f"{tables}{grid.name}.json", rendering.json_text(grid, _PLAIN, page))


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def make(centre: Centre, target: Target) -> Page:
    """The page of a target, in its usual state."""
    names = () if target.name is None else (target.name,)
    return PAGES[target.kind](centre, _PLAIN, *names)


def _figures(page: Page) -> list[Figure]:
    return [block for block in page.blocks if isinstance(block, Figure) and block.series]


def file_targets(centre: Centre, sites: Sequence[str]) -> list[Target]:
    """What a single file holds: the overview and all sites, or only these sites."""
    if sites:
        return [Target("site", name) for name in dict.fromkeys(sites)]
    return [*(Target(kind) for kind in FILE_KINDS), *(Target("site", site.name) for site in centre.sites().sites)]


def file_text(centre: Centre, targets: Sequence[Target], progress: Progress) -> str:
    """One HTML file with these pages below each other: styles, script and pictures are in it. Raises UnknownName.

    Of many sites each is told in short, so that the file can be mailed.
    """
    links, parts = FileLinks(targets), []
    for number, target in enumerate(targets):
        progress(number, target.name or target.kind)
        page, anchor = make(centre, target), anchor_of(target)
        if target.name and len(targets) > _IN_FULL:
            page = _in_short(page)
        pictures = {figure.name: _data_address(plots.draw(figure)) for figure in _figures(page)}
        more = {"prefix": f"{anchor}-", "level": 2, "pictures": pictures}
        parts.append((anchor, Markup(rendering.html(page, _PLAIN, links, "content.html", **more))))  # noqa: S704 - escaped when rendered
    script = rendering.static_text("site.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    title = "Containers by site" if len(targets) > 1 else targets[0].name or targets[0].kind
    page = Page(title, "", centre.now(), (), ["What worker nodes can do, as they reported it."])
    return rendering.html(
        page,
        _PLAIN,
        links,
        "file.html",
        parts=parts,
        style=Markup(rendering.static_text("site.css")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=f"sha256-{digest}",
    )


def write_file(path: Path, text: str) -> None:
    """Write one file, all of it or nothing; a pipe or a device, such as /dev/stdout, stays one. Raises CannotExport."""
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise CannotExport(f"{path} cannot be written: {error.strerror or error}.", "Choose another place.") from error


def _in_short(page: Page) -> Page:
    """What a site can do and why not, without plots and the longer tables."""
    tables = [block for block in page.blocks if isinstance(block, Grid) and block.main]
    return replace(page, blocks=[*(block for block in page.blocks if isinstance(block, Facts | Group)), *tables])


def _data_address(picture: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(picture).decode()
