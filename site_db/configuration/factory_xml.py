"""The factory's XML: all entries of a file, each with the places of its attributes as byte offsets.

An `<entry_set>` (several gatekeepers behind one name) is an entry by its alias. What the root's own `<attrs>` say holds for all
entries that do not say it themselves, in whichever of the factory's files they are (factoryXmlConfig.py of GlideinWMS).

Byte offsets are expat's own, so that an edit can replace one value and leave every other byte as it is. Document types
and entities are refused: no factory file has one, and they are how an XML file reads others or fills the memory.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from site_db.configuration.model import BrokenFile, Entry, Parsed, Problem, Setting

_ROOT = "glidein"
# Paths below the root, and the XML attribute that names what is there.
_ENTRIES = {("entries", "entry"): "name", ("entry_sets", "entry_set"): "alias"}
_LISTS = frozenset(path[:1] for path in _ENTRIES)
_ATTRS = "attrs"
_SUBMIT_ATTRS = ("config", "submit", "submit_attrs")
_TAG_PARTS = re.compile(rb"""([^\s=<>/"']+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG = re.compile(rb"""<(?:[^"'>]|"[^"]*"|'[^']*')*>""")
# Not compatible with ASCII: offsets of bytes would mean nothing to the editor. UTF-16 and UTF-32 begin with these or
# have a NUL next to the first "<".
_WIDE_STARTS = (b"\xff\xfe", b"\xfe\xff")
_DEPTH_LIMIT = 64


class Span(NamedTuple):
    """Bytes from `start` up to, not including, `end`."""

    start: int
    end: int


@dataclass
class Element:
    """An element's place: its start tag, and where its end tag starts and ends (for `<a/>` both are the tag's end)."""

    tag: Span
    attributes: Mapping[str, str]
    line: int
    close: Span = field(default_factory=lambda: Span(0, 0))

    @property
    def is_empty_tag(self) -> bool:
        """Whether it is written `<a/>`."""
        return self.close.start == self.close.end

    def value_span(self, data: bytes, name: str) -> Span | None:
        """The bytes of the value of an XML attribute, quotes included."""
        for part in _TAG_PARTS.finditer(data, self.tag.start, self.tag.end):
            if part[1] == name.encode():
                return Span(*part.span(2))
        return None


@dataclass
class XmlEntry:
    """One `<entry>` with what is inside it, in the file's order."""

    element: Element
    named_by: str = "name"
    gatekeeper: str = ""
    attrs_element: Element | None = None
    attrs: list[Element] = field(default_factory=list)
    submit_attrs: list[Element] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The entry's name."""
        return self.element.attributes.get(self.named_by, "")


class Around(NamedTuple):
    """What files that the factory reads before and after this one set for all entries."""

    before: Mapping[str, Setting]
    after: Mapping[str, Setting]


ALONE = Around({}, {})


def parse_factory_xml(data: bytes, file: str, around: Around = ALONE) -> Parsed:
    """All entries in a factory's XML. Raises BrokenFile with the place for anything that is no such file."""
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    walk = _walked(data, file)
    common = {**around.before, **_common(walk, file, problems), **around.after}
    if not walk.has_entries:
        problems.append(Problem(file, "holds no entries"))
    for found in walk.entries:
        place = f"{file}:{found.element.line}"
        if not found.name:
            raise BrokenFile(place, "an <entry> without a name")
        if found.name in entries:
            problems.append(Problem(place, f"entry {found.name} stands in this file twice; the factory takes the last"))
        entries[found.name] = _entry(found, file, common, problems)
    return Parsed("factory_xml", entries=tuple(entries.values()), problems=tuple(problems), common=common)


def locate_entries(data: bytes, file: str) -> list[XmlEntry]:
    """The entries of a file with their places. Raises BrokenFile."""
    return _walked(data, file).entries


def common_settings(data: bytes, file: str) -> dict[str, Setting]:
    """What a file of the factory sets for all entries; their lines are None. Raises BrokenFile."""
    return _common(_walked(data, file), file, [])


def _walked(data: bytes, file: str) -> "_Walk":
    walk = _Walk(data, file)
    walk.run()
    # Whatever else the factory's files have (files of config.d often have no entries), their root has this name.
    if not (walk.has_entries or walk.root == _ROOT):
        raise BrokenFile(f"{file}:1", "no <entries> in the root element", "Give a factory's XML file.")
    return walk


def _common(walk: "_Walk", file: str, problems: list[Problem]) -> dict[str, Setting]:
    found = _settings(walk.common, "all entries", file, problems)
    return {name: replace(setting, line=None) for name, setting in found.items()}


def is_editable(data: bytes) -> bool:
    """Whether the file's encoding is a superset of ASCII."""
    return not data.startswith(_WIDE_STARTS) and b"\0" not in data[:64]


def _entry(found: XmlEntry, file: str, common: Mapping[str, Setting], problems: list[Problem]) -> Entry:
    about = found.element.attributes
    return Entry(
        name=found.name,
        line=found.element.line,
        enabled=about.get("enabled", "True").strip().lower() == "true",
        gatekeeper=about.get("gatekeeper", found.gatekeeper),
        gridtype=about.get("gridtype"),
        attrs={**common, **_settings(found.attrs, found.name, file, problems)},
        submit_attrs=_settings(found.submit_attrs, found.name, file, problems),
    )


def _settings(elements: list[Element], entry: str, file: str, problems: list[Problem]) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for element in elements:
        place = f"{file}:{element.line}"
        about = dict(element.attributes)
        name, value, kind = about.pop("name", ""), about.pop("value", None), about.pop("type", "string")
        if not name:
            problems.append(Problem(place, f"an attribute of {entry} has no name: left out"))
            continue
        if value is None:
            problems.append(Problem(place, f"{name} of {entry} has no value: taken as empty"))
        if name in settings:
            text = f"{name} of {entry} was set on line {settings[name].line} already; the later one counts"
            problems.append(Problem(place, text))
        settings[name] = Setting(name, value or "", kind, about, element.line)
    return settings


class _Walk:
    """One pass of expat over a file."""

    def __init__(self, data: bytes, file: str) -> None:
        self._data = data
        self._file = file
        self._path: list[tuple[str, Element]] = []
        self.root = ""
        self.entries: list[XmlEntry] = []
        self.common: list[Element] = []
        self.has_entries = False
        self._parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse("a document type (<!DOCTYPE>)")
        parser.EntityDeclHandler = self._refuse("an entity")
        parser.ExternalEntityRefHandler = self._refuse("an external entity")

    def run(self) -> None:
        try:
            self._parser.Parse(self._data, True)
        except expat.ExpatError as error:
            place = f"{self._file}:{error.lineno}:{error.offset + 1}"
            raise BrokenFile(place, f"not well-formed XML: {expat.ErrorString(error.code)}") from error
        except (LookupError, ValueError) as error:  # an encoding that Python doesn't have, or with several bytes
            raise BrokenFile(f"{self._file}:1", f"its encoding cannot be read: {error}") from error

    def _refuse(self, what: str) -> Callable[..., NoReturn]:
        def refuse(*_arguments: object) -> NoReturn:
            place = f"{self._file}:{self._parser.CurrentLineNumber}"
            raise BrokenFile(place, f"{what} is refused: factory files have none", "Take it out of the file.")

        return refuse

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._path) >= _DEPTH_LIMIT:
            raise BrokenFile(f"{self._file}:{self._parser.CurrentLineNumber}", "elements are nested too deeply")
        start = self._parser.CurrentByteIndex
        tag = _TAG.match(self._data, start)
        element = Element(Span(start, tag.end() if tag else start), attributes, self._parser.CurrentLineNumber)
        self.root = self.root or name
        self._path.append((name, element))
        self._place(tuple(step for step, _ in self._path[1:]), element)

    def _place(self, path: tuple[str, ...], element: Element) -> None:
        """Keep what we know by its path below the root element."""
        if path in _LISTS:
            self.has_entries = True
        elif path == (_ATTRS, "attr"):
            self.common.append(element)
        elif path in _ENTRIES:
            self.entries.append(XmlEntry(element, _ENTRIES[path]))
        elif path[:2] in _ENTRIES:
            self._place_inside(path[2:], self.entries[-1], element)

    def _place_inside(self, path: tuple[str, ...], entry: XmlEntry, element: Element) -> None:
        if path == (_ATTRS,):
            entry.attrs_element = element
        elif path == (_ATTRS, "attr"):
            entry.attrs.append(element)
        elif path == (*_SUBMIT_ATTRS, "submit_attr"):
            entry.submit_attrs.append(element)
        elif path == ("entries", "entry"):  # of a set: the first stands for all
            entry.gatekeeper = entry.gatekeeper or element.attributes.get("gatekeeper", "")

    def _end(self, _name: str) -> None:
        _, element = self._path.pop()
        if self._data[element.tag.start : element.tag.end].endswith(b"/>"):
            element.close = Span(element.tag.end, element.tag.end)
        else:
            start = self._parser.CurrentByteIndex
            element.close = Span(start, self._data.find(b">", start) + 1)
