"""Reports out of machine ads: from a pool's collector by HTCondor's own bindings, or from ads as text.

The bindings are PyPI's `htcondor` (the module `htcondor2`), which is not everywhere; `condor_status -long` writes ads as
text wherever there is a condor_status.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple, Protocol

from reports import compression
from reports.packed_reports import NotPacked, unpacked_attribute
from reports.reading import Found, Place, Unreadable, lines
from site_db.errors import SiteDbError

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


class NoBindings(SiteDbError):
    """HTCondor's Python bindings are not installed."""


class PoolSilent(SiteDbError):
    """A pool's collector gave no answer that is of use."""


class Ad(NamedTuple):
    """A packed report and where it stood."""

    place: Place
    text: str


class Querying(Protocol):
    """What of a collector is used: htcondor2.Collector."""

    def query(self, ad_type: Any, *, constraint: str, projection: list[str]) -> Iterable[Mapping[str, Any]]:  # noqa: ANN401 - the bindings have no types
        """The ads that meet the constraint."""


def names(prefix: str | None = None) -> list[str]:
    """The attributes to ask for: those with a usual prefix, and one more."""
    return [given + ATTRIBUTE for given in dict.fromkeys([*PREFIXES, *([prefix] if prefix else [])])]


def constraint_of(attributes: list[str], further: str | None) -> str:
    """A ClassAd expression: has one of the attributes, and meets what the user asks for."""
    has_one = " || ".join(f"isString({name})" for name in attributes)
    return f"({has_one}) && ({further})" if further else has_one


def ads_of_pool(pool: str, further: str | None, prefix: str | None, bindings: Any = None) -> Iterator[Ad]:  # noqa: ANN401 - a module without types
    """The packed reports in a pool's machine ads. Raises NoBindings, PoolSilent."""
    bindings = bindings or _bindings()
    attributes = names(prefix)
    try:
        collector: Querying = bindings.Collector(pool)
        found = collector.query(
            bindings.AdTypes.Startd, constraint=constraint_of(attributes, further), projection=["Name", *attributes]
        )
    except (bindings.HTCondorException, OSError, ValueError) as error:
        message = f"The collector of pool {pool} gave no ads: {error}."
        raise PoolSilent(message, f"Look whether this works here: condor_status -pool {pool} -limit 1") from error
    for ad in found:
        for name in attributes:
            if isinstance(ad.get(name), str):
                yield Ad(Place(f"{pool}: {ad.get('Name')}: {name}"), ad[name])


def _bindings() -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module("htcondor2")
    except ImportError as error:
        message = "HTCondor's Python bindings are not installed, so no pool can be asked."
        remedy = (
            "Install them (pip install htcondor), or go without: "
            "condor_status -long | site-db harvest ads -"
        )
        raise NoBindings(message, remedy) from error


def ads_in_text(path: str, source: IO[bytes]) -> Iterator[Ad | Unreadable]:
    """The packed reports in ads as text (plain, gzip, zstd): `condor_status -long`, `-json`, `-xml`."""
    head = source.read(4)
    try:
        for line in lines(compression.pieces(source, compression.encoding_of(head), head), LINE_LIMIT_BYTES):
            for match in _IN_TEXT.finditer(line.raw):
                yield Ad(Place(path, line.number), match.group(1).decode("ascii", "replace"))
    except (OSError, compression.Damaged) as error:
        yield Unreadable(Place(path), f"cannot be read: {error}")


def reports_of(ads: Iterable[Ad | Unreadable]) -> Iterator[Found | Unreadable]:
    """What the ads hold, unpacked. All slots of a machine repeat one report: it comes once as long as they stand together."""
    before = ""
    for ad in ads:
        if isinstance(ad, Unreadable):
            yield ad
        elif ad.text != before:
            before = ad.text
            try:
                raw = unpacked_attribute(ad.text)
                yield Found(ad.place, raw, len(raw))
            except NotPacked as error:
                yield Unreadable(ad.place, f"the attribute is no report: {error}")
