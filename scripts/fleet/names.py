"""Names of entries with their site and resource: the factories' own where their files are at hand, else made up."""

import os
import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]


class EntryName(NamedTuple):
    """One entry of one factory."""

    name: str
    site: str
    resource: str


def entry_names(count: int) -> list[EntryName]:
    """`count` entries, those of the factories' files first, in the order of their names."""
    real = sorted(set(_from_files()))[:count]
    return [*real, *(EntryName(f"Made_Up_{n:04}", f"Made-Up-{n % 97}", f"CE-{n}") for n in range(count - len(real)))]


def _from_files() -> list[EntryName]:
    folder = Path(os.environ.get("PROBE_SHARED_DATA") or ROOT.parent / "shared/data") / "factory"
    found = []
    for path in sorted(folder.glob("*.xml")):
        # The files hold a list of entries under <entries>, or are one; they are ours to trust: local configuration.
        for entry in ElementTree.parse(path).getroot().iter("entry"):
            values = {attr.get("name"): attr.get("value") for attr in entry.iter("attr")}
            name = entry.get("name") or ""
            site = values.get("GLIDEIN_Site") or name
            found.append(EntryName(name, site, values.get("GLIDEIN_ResourceName") or site))
    for path in sorted(folder.glob("**/*.auto.yml")):
        # A site stands at the margin, an entry six blanks in.
        site = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"( {0}| {6})([A-Za-z0-9._-]+):\s*$", line):
                site = site if match[1] else match[2]
                if match[1]:
                    found.append(EntryName(match[2], site, site))
    return found
