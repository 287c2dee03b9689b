"""Edits of the factory's XML: a value is replaced inside its quotes, a new attribute gets a line among its neighbours."""

from collections.abc import Sequence
from itertools import groupby
from xml.sax.saxutils import escape

from site_db.configuration.editing import CannotEdit, Change, Edit, eol_near, indentation, line_end, line_start
from site_db.configuration.factory_xml import Element, XmlEntry, is_editable, locate_entries
from site_db.render_xml import render_attr, xml_text

_STEP = b"   "  # the factories' own files indent by three blanks


def xml_edits(data: bytes, changes: Sequence[Change], file: str) -> tuple[list[Edit], dict[str, str]]:
    """The edits that make these changes, and the entries that cannot be edited, with the cause. Raises BrokenFile.

    A change to the value that is there already makes no edit.
    """
    entries = {entry.name: entry for entry in locate_entries(data, file)}
    edits: list[Edit] = []
    refused: dict[str, str] = {}
    in_order = sorted(changes, key=lambda change: change.entry)
    for name, group in groupby(in_order, key=lambda change: change.entry):
        try:
            edits += _entry_edits(data, entries.get(name), list(group), file)
        except CannotEdit as error:
            refused[name] = str(error)
    return edits, refused


def _entry_edits(data: bytes, entry: XmlEntry | None, changes: list[Change], file: str) -> list[Edit]:
    if entry is None:
        raise CannotEdit(f"{file}: no entry {changes[0].entry}")
    if not is_editable(data):
        raise CannotEdit(f"{file}: its encoding is not an extension of ASCII; convert it to UTF-8 first")
    there = {element.attributes.get("name", ""): element for element in entry.attrs}  # of two of one name the last
    edits = []
    missing = []
    for change in changes:
        element = there.get(change.attribute.name)
        if element is None:
            missing.append(change)
        elif element.attributes.get("value") != change.value:
            edits.append(_new_value(data, element, change.value))
    return edits + _insertions(data, entry, sorted(missing, key=lambda change: change.attribute.name))


def _new_value(data: bytes, element: Element, value: str) -> Edit:
    span = element.value_span(data, "value")
    if span is None:  # an <attr> without a value: it becomes its last attribute
        end = element.tag.end - (2 if element.is_empty_tag else 1)
        return Edit(end, end, b" value=" + _quoted(value, '"'))
    return Edit(span.start, span.end, _quoted(value, chr(data[span.start])))


def _quoted(value: str, quote: str) -> bytes:
    # References for what is not ASCII: right in every encoding that the file may declare.
    quotes = {"'": "&apos;"} if quote == "'" else {'"': "&quot;"}
    return f"{quote}{escape(xml_text(value), quotes)}{quote}".encode("ascii", "xmlcharrefreplace")


def _insertions(data: bytes, entry: XmlEntry, changes: Sequence[Change]) -> list[Edit]:
    if not changes:
        return []
    if not entry.attrs:
        return [_first_attributes(data, entry, changes)]
    edits: dict[int, list[Change]] = {}
    for change in changes:
        name = change.attribute.name
        before = [n for n, element in enumerate(entry.attrs) if element.attributes.get("name", "") > name]
        edits.setdefault(before[0] if before else len(entry.attrs), []).append(change)
    return [_insert_at(data, entry.attrs, number, group) for number, group in edits.items()]


def _insert_at(data: bytes, neighbours: Sequence[Element], number: int, changes: Sequence[Change]) -> Edit:
    """Lines after the neighbour before, so that a comment above the next one stays above it."""
    neighbour = neighbours[number - 1] if number else neighbours[0]
    indent, eol = indentation(data, neighbour.tag.start), eol_near(data, neighbour.tag.start)
    if number == 0:
        if data[line_start(data, neighbour.tag.start) : neighbour.tag.start].strip():
            return Edit(neighbour.tag.start, neighbour.tag.start, _tags(changes))
        start = _above_comments(data, line_start(data, neighbour.tag.start))
        return Edit(start, start, b"".join(indent + _tag(change) + eol for change in changes))
    end = neighbour.close.end
    rest = data[end : line_end(data, end)]
    if rest.endswith(b"\n") and (not rest.strip() or _is_comment(rest.strip())):
        after = line_end(data, end)
        return Edit(after, after, b"".join(indent + _tag(change) + eol for change in changes))
    return Edit(end, end, b"".join(eol + indent + _tag(change) for change in changes))


def _above_comments(data: bytes, start: int) -> int:
    """Where the comments begin that stand on lines of their own right above this line: they are about what is in it."""
    while True:
        above = data[:start].removesuffix(b"\n").rstrip(b" \t\r")
        begin = above.rfind(b"<!--")
        if not above.endswith(b"-->") or data[line_start(data, begin) : begin].strip():
            return start
        start = line_start(data, begin)


def _is_comment(text: bytes) -> bool:
    return text.startswith(b"<!--") and text.endswith(b"-->") and text.count(b"<!--") == 1


def _first_attributes(data: bytes, entry: XmlEntry, changes: Sequence[Change]) -> Edit:
    """The lines of an entry that has no attribute yet, with `<attrs>` around them where there is none."""
    element = entry.attrs_element
    eol = eol_near(data, entry.element.tag.start)
    if element is not None and not element.is_empty_tag:
        outer = indentation(data, element.tag.start)
        lines = b"".join(eol + outer + _STEP + _tag(change) for change in changes)
        alone = b"\n" not in data[element.tag.end : element.close.start]
        return Edit(element.tag.end, element.tag.end, lines + (eol + outer if alone else b""))
    if element is not None:
        outer = indentation(data, element.tag.start)
        return Edit(element.tag.start, element.tag.end, _block(changes, outer, eol))
    outer = indentation(data, entry.element.tag.start) + _STEP
    if entry.element.is_empty_tag:
        raise CannotEdit(f"entry {entry.name} is written <entry .../>: give it an <attrs> element by hand first")
    end = entry.element.tag.end
    return Edit(end, end, eol + outer + _block(changes, outer, eol))


def _block(changes: Sequence[Change], outer: bytes, eol: bytes) -> bytes:
    lines = b"".join(outer + _STEP + _tag(change) + eol for change in changes)
    return b"<attrs>" + eol + lines + outer + b"</attrs>"


def _tags(changes: Sequence[Change]) -> bytes:
    return b"".join(map(_tag, changes))


def _tag(change: Change) -> bytes:
    return render_attr(change.attribute, change.value).encode("ascii", "xmlcharrefreplace")
