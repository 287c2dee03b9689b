"""How named links are spelt: by the server, in an exported folder, in a single file."""

import hashlib
import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import quote, urlencode

from reports.pages.model import Target

# Kinds of pages and where the server has them; those that end with a slash are followed by a name.
PATHS = {
    "sites": "",
    "site": "sites/",
    "entries": "entries",
    "entry": "entries/",
    "nodes": "nodes",
    "node": "nodes/",
    "changes": "changes",
    "drift": "drift",
    "drift_of": "drift/",
    "images": "images",
    "image": "images/",
    "pick": "pick",
    "coverage": "coverage",
    "reasons": "reasons",
    "reason": "reasons/",
    "trends": "trends",
    "plot": "plots/",
    "collector": "collector",
    "static": "static/",
}
# The navigation: kind of page, text.
NAVIGATION = (
    ("sites", "Sites"),
    ("entries", "Entries"),
    ("nodes", "Nodes"),
    ("changes", "Changes"),
    ("drift", "Drift"),
    ("images", "Images"),
    ("pick", "Pick"),
    ("coverage", "Coverage"),
    ("reasons", "Reasons"),
    ("trends", "Trends"),
    ("collector", "Collector"),
)
_SLUG_LENGTH = 48
# Longer addresses are refused on the way (the server takes 32 KiB of headers).
_LONGEST = 16_000


class Links(Protocol):
    """Spells links. None: there is no such page here, so that the text stands without a link."""

    @property
    def is_served(self) -> bool:
        """Whether a server answers: forms, sorting by links and tables in other formats work."""

    def to(self, target: Target) -> str | None:
        """The address of a page."""


class ServedLinks:
    """Links under the path at which the server's application is mounted."""

    is_served = True

    def __init__(self, root: str = "") -> None:
        self._root = root.rstrip("/")

    def to(self, target: Target) -> str | None:
        """An absolute path. A name of one or two dots cannot be a part of a path: browsers resolve it away."""
        if target.name in (".", "..", ""):
            return None
        path = f"{self._root}/{PATHS[target.kind]}{quote(target.name or '', safe='')}"
        address = path + (f"?{urlencode(target.query)}" if target.query else "")
        return address if len(address) <= _LONGEST else None


class FolderLinks:
    """Relative links between the files of an exported folder, of which `there` has those that are written."""

    is_served = False

    def __init__(self, here: PurePosixPath, there: Collection[PurePosixPath]) -> None:
        self._up = "../" * (len(here.parts) - 1)
        self._there = there

    def to(self, target: Target) -> str | None:
        """A relative address; None for a page that was not exported."""
        path = file_of(target)
        return self._up + quote(str(path)) if path in self._there else None


class FileLinks:
    """Links within one file that holds these pages one below the other."""

    is_served = False

    def __init__(self, there: Iterable[Target]) -> None:
        self._anchors = {anchor_of(target) for target in there}

    def to(self, target: Target) -> str | None:
        """A fragment; None for a page that the file does not hold."""
        anchor = anchor_of(target)
        return f"#{anchor}" if anchor in self._anchors else None


def file_of(target: Target) -> PurePosixPath:
    """The file of a page in an exported folder: a harmless name, unique by a hash of the real one."""
    if target.kind in ("static", "plot"):
        return PurePosixPath(target.kind, target.name or "")
    if target.name is None:
        return PurePosixPath("index.html" if target.kind == "sites" else f"{target.kind}.html")
    return PurePosixPath(target.kind, f"{slug(target.name)}.html")


def anchor_of(target: Target) -> str:
    """The id of a page within a single file."""
    return target.kind if target.name is None else f"{target.kind}-{slug(target.name)}"


def slug(name: str) -> str:
    """A short name of letters and digits for any text: readable, and different for different texts."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", name[:_SLUG_LENGTH]).strip("-")
    return f"{readable or 'x'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
