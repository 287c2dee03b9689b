"""Reports out of machine ads: from a pool's collector by HTCondor's own bindings, or from ads as text.

The bindings are PyPI's `htcondor` (the module `htcondor2`), which is not everywhere; `condor_status -long` writes ads as
text wherever there is a condor_status.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple, Protocol

from reports import compression
from reports.harvest_identity import Known, held_to
from reports.packed_reports import NotPacked, unpacked_attribute
from reports.reading import Found, Place, Unreadable, lines
from site_db.errors import SiteDbError
from site_db.extras import how_to_install

ATTRIBUTE = "PROBE_REPORT"
# GlideinWMS puts a prefix of the frontend's or factory's choice before what a periodic script prints; GLIDEIN_PS_ is its
# own. startd_cron has a PREFIX likewise.
PREFIXES = ("", "GLIDEIN_PS_")
LINE_LIMIT_BYTES = 16 * 1024 * 1024
# Of all forms of condor_status: -long, -json, -xml; a slot's ad repeats what its machine says.
_IN_TEXT = re.compile(
    rb"(?i)\b(?:[a-z]\w{0,60}_)?"
    + ATTRIBUTE.encode()
    + rb'"?(?:\s*[=:]\s*"|\s*>\s*<s>)([^"<]{0,%d})["<]' % LINE_LIMIT_BYTES
)
# The entry as the glidein's HTCondor has it, in the same ad.
ENTRY_ATTRIBUTE = "GLIDEIN_Entry_Name"
_ENTRY_IN_TEXT = re.compile(
    rb"(?i)\b" + ENTRY_ATTRIBUTE.encode() + rb'"?(?:\s*[=:]\s*"|\s*>\s*<s>)([^"<]{0,1024})["<]'
)
# What stands on a line of its own between two ads, in each of these forms.
_BETWEEN_ADS = re.compile(rb"[\[\]{},]*|</?c>")
_PENDING_LIMIT = 16
# Every slot repeats what its machine says; the first is the partitionable one where there is one.
FIRST_SLOT = "SlotID =?= 1 && DynamicSlot =!= true"


class NoBindings(SiteDbError):
    """HTCondor's Python bindings are not installed."""


class PoolSilent(SiteDbError):
    """A pool's collector gave no answer that is of use."""


class Ad(NamedTuple):
    """A packed report and where it stood; `entries`: what the same ad says of its entry."""

    place: Place
    text: str
    entries: frozenset[str] = frozenset()


class Querying(Protocol):
    """What of a collector is used: htcondor2.Collector."""

    def query(self, ad_type: Any, *, constraint: str, projection: list[str]) -> Iterable[Mapping[str, Any]]:  # noqa: ANN401 - the bindings have no types
        """The ads that meet the constraint."""


def names(prefix: str | None = None) -> list[str]:
    """The attributes to ask for: those with a usual prefix, and one more."""
    return [given + ATTRIBUTE for given in dict.fromkeys([*PREFIXES, *([prefix] if prefix else [])])]


def constraint_of(attributes: list[str], further: str | None, *, all_slots: bool = False) -> str:
    """A ClassAd expression: has one of the attributes, is a machine's first slot, and meets what the user asks for."""
    has_one = " || ".join(f"isString({name})" for name in attributes)
    parts = [has_one, *([] if all_slots else [FIRST_SLOT]), *([further] if further else [])]
    return " && ".join(f"({part})" for part in parts)


def ads_of_pool(
    pool: str,
    further: str | None,
    prefix: str | None,
    bindings: Any = None,  # noqa: ANN401 - a module without types
    *,
    all_slots: bool = False,
) -> Iterator[Ad]:
    """The packed reports in a pool's machine ads. Raises NoBindings, PoolSilent."""
    bindings = bindings or _bindings()
    attributes = names(prefix)
    try:
        collector: Querying = bindings.Collector(pool)
        found = collector.query(
            bindings.AdTypes.Startd,
            constraint=constraint_of(attributes, further, all_slots=all_slots),
            projection=["Name", ENTRY_ATTRIBUTE, *attributes],
        )
    except (bindings.HTCondorException, OSError, ValueError) as error:
        message = f"The collector of pool {pool} gave no ads: {error}."
        raise PoolSilent(message, f"Look whether this works here: condor_status -pool {pool} -limit 1") from error
    for ad in found:
        entry = ad.get(ENTRY_ATTRIBUTE)
        entries = frozenset([entry] if isinstance(entry, str) else [])
        for name in attributes:
            if isinstance(ad.get(name), str):
                yield Ad(Place(f"{pool}: {ad.get('Name')}: {name}"), ad[name], entries)


def _bindings() -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module("htcondor2")
    except ImportError as error:
        message = "HTCondor's Python bindings are not installed, so no pool can be asked."
        remedy = f"{how_to_install('htcondor')}, or go without: condor_status -long | site-db harvest ads -"
        raise NoBindings(message, remedy) from error


def ads_in_text(path: str, source: IO[bytes]) -> Iterator[Ad | Unreadable]:
    """The packed reports in ads as text (plain, gzip, zstd): `condor_status -long`, `-json`, `-xml`."""
    head = source.read(4)
    pending: list[Ad] = []
    entries: set[str] = set()
    damage: list[Unreadable] = []
    try:
        for line in lines(compression.pieces(source, compression.encoding_of(head), head), LINE_LIMIT_BYTES):
            if _BETWEEN_ADS.fullmatch(line.raw.strip()) or len(pending) >= _PENDING_LIMIT:
                yield from _of_entries(pending, entries)
                pending, entries = [], set()
            entries |= {found.decode("utf-8", "replace") for found in _ENTRY_IN_TEXT.findall(line.raw)}
            texts = (match.group(1).decode("ascii", "replace") for match in _IN_TEXT.finditer(line.raw))
            pending += [Ad(Place(path, line.number), text) for text in texts]
    except (OSError, compression.Damaged) as error:
        damage.append(Unreadable(Place(path), f"cannot be read: {error}"))
    yield from _of_entries(pending, entries)
    yield from damage


def _of_entries(ads: Iterable[Ad], entries: Iterable[str]) -> Iterator[Ad]:
    return (ad._replace(entries=frozenset(entries)) for ad in ads)


def reports_of(ads: Iterable[Ad | Unreadable], pins: Known | None = None) -> Iterator[Found | Unreadable]:
    """What the ads hold, unpacked. All slots of a machine repeat one report: it comes once as long as they stand together.

    A report of another entry than the ad's, or of another factory or site than those pinned, is refused.
    """
    before: tuple[str, frozenset[str]] | None = None
    for ad in ads:
        if isinstance(ad, Unreadable):
            yield ad
        elif (ad.text, ad.entries) != before:
            before = (ad.text, ad.entries)
            try:
                raw = unpacked_attribute(ad.text)
                yield held_to(Found(ad.place, raw, len(raw)), {**(pins or {}), "entry": ad.entries})
            except NotPacked as error:
                yield Unreadable(ad.place, f"the attribute is no report: {error}")
