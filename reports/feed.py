"""Changes as an Atom feed (RFC 4287), for readers and chat rooms that follow one."""

import re
import uuid
from xml.etree import ElementTree

from site_db.changes_views import Change, ChangeList
from site_db.times import format_time

MEDIA_TYPE = "application/atom+xml"
_NAMESPACE = "http://www.w3.org/2005/Atom"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def atom(found: ChangeList, url: str) -> bytes:
    """The feed of the confirmed changes; `url` is its own address."""
    feed = ElementTree.Element("feed", xmlns=_NAMESPACE)
    told = [change for change in found.changes if change.confirmed_at]
    newest = max((_updated(change) for change in told), default=format_time(found.generated_at))
    _add(feed, "id", url)
    _add(feed, "title", "What entries lost and gained")
    _add(feed, "updated", newest)
    ElementTree.SubElement(feed, "link", rel="self", href=url)
    _add(ElementTree.SubElement(feed, "author"), "name", "site-db")
    for change in told:
        _add_entry(feed, change)
    document: bytes = ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)
    return document


def _add_entry(feed: ElementTree.Element, change: Change) -> None:
    entry = ElementTree.SubElement(feed, "entry")
    name = f"{change.factory}/{change.entry}/{change.capability}/{change.direction}/{change.id}"
    _add(entry, "id", uuid.uuid5(uuid.NAMESPACE_URL, name).urn)
    _add(entry, "title", f"{change.entry} {change.direction} {change.capability} ({change.state})")
    _add(entry, "updated", _updated(change))
    _add(entry, "published", format_time(change.confirmed_at or change.since))
    ElementTree.SubElement(entry, "category", term=change.direction)
    _add(entry, "summary", change.sentence)


def _updated(change: Change) -> str:
    return format_time(change.closed_at or change.confirmed_at or change.since)


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = _NO_XML.sub("\ufffd", text)
