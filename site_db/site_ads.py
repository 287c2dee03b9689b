"""Site ads: what each site and entry can do, as ClassAds for an HTCondor collector.

What is not known is left out, so that it reads as undefined: never 0, false or an empty string. Names come from reports
and are hostile: they stand in strings only, never in expressions or in the names of attributes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select

from site_db.images.fleet import reports_since
from site_db.images.naming import is_repository_name
from site_db.queries import ENTRIES, SITES, groups_by_entry, groups_by_site
from site_db.reduction import NO_NAME, UNKNOWN_SITE
from site_db.rules import ANY, Rules, default_rules
from site_db.store import Store
from site_db.verdicts import NodeGroup, Verdict, judge_all

Value = bool | int | float | str
Ad = dict[str, Value]

SITE, ENTRY = "ProbeSite", "ProbeEntry"
STRING_LIMIT = 1000
_LIST_LIMIT = 16_000
_LOOKALIKES = {"\\": "/", '"': "'"}
_ENTRY_NAMES = ("GLIDEIN_Site", "GLIDEIN_Entry_Name", "GLIDEIN_Factory", "GLIDEIN_ResourceName")
_CVMFS = "cvmfs:"
_WORKS = {"yes": True, "no": False}


class Attribute(NamedTuple):
    """One attribute: its name, its type in words, and what it says. docs/site-ads.md is checked against these."""

    name: str
    type: str
    about: str


ATTRIBUTES = (
    Attribute("MyType", "string", f"`{SITE}` or `{ENTRY}`"),
    Attribute("Name", "string", "the site; of an entry `NAME@FACTORY`. It is unique among ads of one type"),
    Attribute("GLIDEIN_Site", "string", "the site"),
    Attribute("GLIDEIN_Entry_Name", "string", "the entry; not in ads of sites"),
    Attribute("GLIDEIN_Factory", "string", "its factory; not in ads of sites"),
    Attribute("GLIDEIN_ResourceName", "string", "its resource; not in ads of sites"),
    Attribute("PROBE_NODES", "integer", "nodes that reported in the window"),
    Attribute("PROBE_NEWEST", "integer", "when the newest of their reports was made, seconds since the epoch"),
    Attribute("PROBE_WINDOW_DAYS", "integer", "how many days back reports count"),
    Attribute("PROBE_GENERATED", "integer", "when the ad was made, seconds since the epoch"),
    Attribute("PROBE_CVMFS_OK", "string", "repositories that give data on all measured nodes, comma separated"),
    Attribute("PROBE_CVMFS_FAILED", "string", "repositories that do so on none of them, comma separated"),
)
# For every capability of the rules, `CAN_` and its name in capitals, with these endings.
PER_CAPABILITY = (
    Attribute("", "boolean", "true: on all measured nodes; false: on none; undefined: on some, or not known"),
    Attribute("_SHARE", "real", "share of yes among the nodes that answered yes or no, 0 to 1"),
    Attribute("_NODES", "integer", "how many nodes answered yes or no"),
    Attribute("_CONFIDENCE", "string", "high, medium or low"),
    Attribute("_REASON", "string", "the most frequent reason code of those that answered no"),
)


def list_ads(store: Store, now: datetime, kinds: Iterable[str] = (SITE, ENTRY)) -> list[Ad]:
    """The ads of all sites and entries with reports in the window, of these kinds. Raises DatabaseUnavailable."""
    rules = default_rules()
    since = reports_since(now, rules)
    with store.reading() as connection:
        sites = {row.id: row.name for row in connection.execute(select(SITES.id, SITES.name))}
        entries = connection.execute(
            select(ENTRIES.id, ENTRIES.name, ENTRIES.factory, ENTRIES.site_id, ENTRIES.resource)
        ).all()
        by_site = groups_by_site(connection, since) if SITE in kinds else {}
        by_entry = groups_by_entry(connection, since) if ENTRY in kinds else {}
    ads = [
        {"MyType": SITE, "Name": _text(site), "GLIDEIN_Site": _text(site), **_found(by_site[number], now, rules)}
        for number, site in sites.items()
        if number in by_site and site != UNKNOWN_SITE
    ]
    for row in entries:
        if row.id in by_entry and not row.name.startswith(NO_NAME):
            names = dict(zip(_ENTRY_NAMES, (sites[row.site_id], row.name, row.factory, row.resource), strict=True))
            known = {name: _text(value) for name, value in names.items() if value not in (NO_NAME, UNKNOWN_SITE)}
            name = _text(f"{row.name}@{row.factory}")
            ads.append({"MyType": ENTRY, "Name": name, **known, **_found(by_entry[row.id], now, rules)})
    return sorted(ads, key=lambda ad: (ad["MyType"] != SITE, str(ad["Name"])))


def _found(groups: Sequence[NodeGroup], now: datetime, rules: Rules) -> Ad:
    ad: Ad = {
        "PROBE_NODES": sum(group.nodes for group in groups),
        "PROBE_NEWEST": int(max(group.newest for group in groups).timestamp()),
        "PROBE_WINDOW_DAYS": rules.window_days,
        "PROBE_GENERATED": int(now.timestamp()),
    }
    verdicts = judge_all(groups, rules)
    single = {row.name for row in rules.capabilities if ANY not in row.name}
    for verdict in verdicts:
        if verdict.capability in single:
            ad |= _capability(verdict)
    return ad | _repositories(verdicts)


def attribute_of(capability: str) -> str:
    """The attribute of a capability of the rules."""
    return f"CAN_{capability.upper()}"


def _capability(verdict: Verdict) -> Ad:
    if verdict.share is None:
        return {}
    name = attribute_of(verdict.capability)
    ad: Ad = {name: _WORKS[verdict.answer]} if verdict.answer in _WORKS else {}
    ad |= {
        f"{name}_SHARE": round(verdict.share, 4),
        f"{name}_NODES": verdict.nodes_measured,
        f"{name}_CONFIDENCE": verdict.confidence,
    }
    if verdict.nodes_no and verdict.reasons and verdict.reasons[0].code:
        ad[f"{name}_REASON"] = _text(verdict.reasons[0].code)
    return ad


def _repositories(verdicts: Iterable[Verdict]) -> Ad:
    ad: Ad = {}
    of_cvmfs = [verdict for verdict in verdicts if verdict.capability.startswith(_CVMFS)]
    for attribute, answer in (("PROBE_CVMFS_OK", "yes"), ("PROBE_CVMFS_FAILED", "no")):
        names = sorted(v.capability.removeprefix(_CVMFS) for v in of_cvmfs if v.answer == answer)
        if told := _list([name for name in names if is_repository_name(name)]):
            ad[attribute] = told
    return ad


def _list(names: Sequence[str]) -> str:
    """As many whole names as have room."""
    room, kept = _LIST_LIMIT, []
    for name in names:
        room -= len(name) + 1
        if room < 0:
            break
        kept.append(name)
    return ",".join(kept)


def _text(value: str) -> str:
    r"""A text of a stranger as one string of an ad, the same to every reader.

    Old and new ClassAds read a backslash and a quote in a string differently: neither gets in, nor what does not print.
    A text that had to be changed ends with a mark of what it was, so that it cannot pass for another.
    """
    plain = "".join(_LOOKALIKES.get(char, char) if char.isprintable() else "?" for char in value[:STRING_LIMIT])
    return plain if plain == value else f"{plain}~{hashlib.sha256(value.encode()).hexdigest()[:8]}"


def as_text(ads: Iterable[Ad]) -> str:
    """The ads as condor_advertise and condor_status -long write them: an attribute a line, a blank line behind each ad."""
    return "".join("".join(f"{name} = {_literal(value)}\n" for name, value in ad.items()) + "\n" for ad in ads)


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f'"{value}"' if isinstance(value, str) else str(value)
