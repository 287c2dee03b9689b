"""Edits of autoconf YAML: a value is replaced in its own quoting, a new attribute gets two lines among its neighbours."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple, TypeGuard

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from site_db.configuration.autoconf import Located, child, decode, load_yaml, locate_yaml_entries, pasted_text, place_of
from site_db.configuration.editing import CannotEdit, Change, Edit
from site_db.render_xml import escape_attribute
from site_db.rules import Attribute

_STEP = 2
_VALUE = "value"
_BOM = b"\xef\xbb\xbf"
# A text that needs no quotes wherever it stands in a block, if YAML 1.1 then still takes it for this text.
_PLAIN = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./,=+@-]*")
_PLACED_LAST = ("submit_attrs", "work_dir")
_Lines = Callable[[int], list[str]]
_FLAGS = ("const", "glidein_publish", "job_publish", "parameter", "publish")


class _Text(NamedTuple):
    """The text of a file, in characters: what YAML's marks count."""

    text: str
    file: str

    @property
    def eol(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"


class _Replacement(NamedTuple):
    start: int
    end: int
    new: str


def yaml_edits(data: bytes, changes: Sequence[Change], file: str) -> tuple[list[Edit], dict[str, str]]:
    """The edits that make these changes, and the entries that cannot be edited, with the cause. Raises BrokenFile.

    A change to the value that is there already makes no edit.
    """
    located = locate_yaml_entries(data, file)
    entries = {item.path[-1]: item for item in located}
    shared = _shared(located)
    text = _Text(decode(data, file), file)
    edits: list[Edit] = []
    refused: dict[str, str] = {}
    in_order = sorted(changes, key=lambda change: change.entry)
    for name, group in groupby(in_order, key=lambda change: change.entry):
        try:
            if name not in entries:
                raise CannotEdit(f"{file}: no entry {name}")
            replacements = _entry_edits(text, entries[name], list(group), shared)
            edits += [_in_bytes(item, text.text, data) for item in replacements]
        except CannotEdit as error:
            refused[name] = str(error)
    return edits, refused


def _in_bytes(item: _Replacement, text: str, data: bytes) -> Edit:
    offset = len(_BOM) if data.startswith(_BOM) else 0
    start = offset + len(text[: item.start].encode())
    return Edit(start, start + len(text[item.start : item.end].encode()), item.new.encode())


def _shared(located: Sequence[Located]) -> set[int]:
    """The nodes that more than one place of the file refers to (anchors): an edit there would change them all."""
    seen: set[int] = set()
    shared: set[int] = set()
    for item in located:
        for node in _with_below(item.node):
            (shared if id(node) in seen else seen).add(id(node))
    return shared


def _with_below(node: Node) -> list[Node]:
    """A node of an entry, its attrs, each of these and their values."""
    attrs = child(node, "attrs")
    nodes = [node, *([attrs[1]] if attrs else [])]
    for _, about in attrs[1].value if attrs and isinstance(attrs[1], MappingNode) else []:
        nodes += [about, *([value for _, value in about.value] if isinstance(about, MappingNode) else [])]
    return nodes


def _entry_edits(text: _Text, item: Located, changes: list[Change], shared: set[int]) -> list[_Replacement]:
    if any(id(node) in shared for node in _with_below(item.node)):
        raise CannotEdit(f"{place_of(item.key, text.file)}: {item.path[-1]} shares settings by an anchor: edit by hand")
    changes = sorted(changes, key=lambda change: change.attribute.name)
    if not _is_mapping(item.node):
        return [_below_key(text, item.key, item.node, partial(_attrs_lines, changes))]
    attrs = child(item.node, "attrs")
    if attrs is None:
        return [_new_attrs(text, item.node, changes)]
    key, node = attrs
    if not _is_mapping(node):
        return [_below_key(text, key, node, partial(_attribute_lines, changes))]
    return _attribute_edits(text, node, changes)


def _attribute_edits(text: _Text, attrs: MappingNode, changes: list[Change]) -> list[_Replacement]:
    edits = []
    missing = []
    for change in changes:
        found = child(attrs, change.attribute.name)
        if found is None:
            missing.append(change)
        elif not _is_mapping(found[1]):
            edits.append(_below_key(text, *found, partial(_value_lines, change)))
        elif value := child(found[1], _VALUE):
            edits += _new_scalar(text, *value, change)
        else:
            edits.append(_before_first(text, found[1], partial(_value_lines, change)))
    return edits + _insertions(text, attrs, missing)


def _insertions(text: _Text, attrs: MappingNode, changes: list[Change]) -> list[_Replacement]:
    if changes and attrs.flow_style:
        raise CannotEdit(f"{place_of(attrs, text.file)}: attributes in braces: write them one a line first")
    step = _step_of(attrs)
    groups: dict[int, list[Change]] = {}
    for change in changes:
        after = [n for n, (key, _) in enumerate(attrs.value) if str(key.value) > change.attribute.name]
        groups.setdefault(after[0] if after else len(attrs.value), []).append(change)
    edits = []
    for number, group in groups.items():
        if number == 0:
            edits.append(_before_first(text, attrs, partial(_attribute_lines, group, step=step)))
        else:
            key, value = attrs.value[number - 1]
            indent = key.start_mark.column
            edits.append(_after(text, _last_character(text, key, value), _attribute_lines(group, indent, step)))
    return edits


def _new_attrs(text: _Text, entry: MappingNode, changes: list[Change]) -> _Replacement:
    """An `attrs` block in an entry that has other settings: before submit_attrs, else at its end."""
    if entry.flow_style:
        raise CannotEdit(f"{place_of(entry, text.file)}: an entry in braces: write its settings one a line first")
    indent = entry.value[0][0].start_mark.column
    lines = _attrs_lines(changes, indent)
    later = [number for number, (key, _) in enumerate(entry.value) if key.value in _PLACED_LAST]
    number = min(later, default=len(entry.value))
    if number == 0:
        return _before_first(text, entry, partial(_attrs_lines, changes))
    return _after(text, _last_character(text, *entry.value[number - 1]), lines)


def _is_mapping(node: Node) -> TypeGuard[MappingNode]:
    return isinstance(node, MappingNode) and bool(node.value)


def _step_of(attrs: MappingNode) -> int:
    """By how much the neighbours indent what is below them."""
    steps = [
        value.value[0][0].start_mark.column - key.start_mark.column
        for key, value in attrs.value
        if _is_mapping(value) and not value.flow_style
    ]
    return next((step for step in steps if step > 0), _STEP)


def _attrs_lines(changes: Sequence[Change], indent: int, step: int = _STEP) -> list[str]:
    return [f"{' ' * indent}attrs:", *_attribute_lines(changes, indent + step, step)]


def _attribute_lines(changes: Sequence[Change], indent: int, step: int = _STEP) -> list[str]:
    lines = []
    for change in changes:
        lines += [f"{' ' * indent}{change.attribute.name}:", _value_line(change, indent + step)]
        lines += [f"{' ' * (indent + step)}{name}: {value}" for name, value in _unusual(change.attribute)]
    return lines


def _unusual(attribute: Attribute) -> list[tuple[str, str]]:
    """What differs from that which the generator takes where nothing is said."""
    usual = Attribute("", "string", attribute.pattern)
    return [
        (name, str(getattr(attribute, name)))
        for name in ("type", *_FLAGS)
        if getattr(attribute, name) != getattr(usual, name)
    ]


def _value_lines(change: Change, indent: int) -> list[str]:
    return [_value_line(change, indent)]


def _value_line(change: Change, indent: int) -> str:
    return f"{' ' * indent}{_VALUE}: {_scalar(change.value, None)}"


def _scalar(value: str, style: str | None) -> str:
    """A value as YAML in this style: plain where it was plain and stays the same text, else in quotes."""
    pasted = escape_attribute(value)  # the generator pastes it into XML as it is
    if style == "'":
        return "'" + pasted.replace("'", "''") + "'"
    if style is None and _PLAIN.fullmatch(pasted) and str(load_yaml(pasted.encode(), "value")) == pasted:
        return pasted
    return '"' + pasted.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _new_scalar(text: _Text, key: Node, node: Node, change: Change) -> list[_Replacement]:
    place = place_of(node, text.file)
    if not isinstance(node, ScalarNode):
        raise CannotEdit(f"{place}: the value of {change.attribute.name} is no text: edit by hand")
    if _is_empty(node):
        colon = text.text.index(":", key.end_mark.index) + 1
        return [_Replacement(colon, colon, " " + _scalar(change.value, None))]
    start, end = node.start_mark.index, node.end_mark.index
    if node.style in ("|", ">") or node.anchor or "\n" in text.text[start:end]:
        raise CannotEdit(f"{place}: the value of {change.attribute.name} is a block or an anchor: edit by hand")
    if pasted_text(load_yaml(text.text[start:end].encode(), place)) == change.value:
        return []
    return [_Replacement(start, end, _scalar(change.value, node.style if node.style in ("'", '"') else None))]


def _is_empty(node: Node) -> bool:
    """Whether nothing stands there. The marks of such a node are those of what follows, past comments."""
    return isinstance(node, ScalarNode) and not node.value and node.start_mark.index == node.end_mark.index


def _below_key(text: _Text, key: Node, value: Node, lines: _Lines) -> _Replacement:
    """Lines below a key that has nothing (`NAME:`, or a null in words, which they replace)."""
    place = place_of(key, text.file)
    if not isinstance(value, ScalarNode) or value.anchor:
        raise CannotEdit(f"{place}: {key.value} is no mapping: edit by hand")
    said = text.text[value.start_mark.index : value.end_mark.index]
    if value.value and said not in ("~", "null", "Null", "NULL"):
        raise CannotEdit(f"{place}: {key.value} is {said[:40]!r} and no mapping: edit by hand")
    if said:
        raise CannotEdit(f"{place}: {key.value} is set to {said}, which takes it away on purpose: edit by hand")
    return _after(text, _last_character(text, key, value), lines(key.start_mark.column + _STEP))


def _before_first(text: _Text, node: MappingNode, lines: _Lines) -> _Replacement:
    """Lines before the first key of a block mapping."""
    key = node.value[0][0]
    start = text.text.rfind("\n", 0, key.start_mark.index) + 1
    if node.flow_style or text.text[start : key.start_mark.index].strip():
        raise CannotEdit(f"{place_of(node, text.file)}: not one setting a line: edit by hand")
    start = _above_comments(text.text, start)
    return _Replacement(start, start, "".join(line + text.eol for line in lines(key.start_mark.column)))


def _above_comments(text: str, start: int) -> int:
    """Where the lines of comment begin that stand right above this line: they are about what is in it."""
    while start and text[(above := text.rfind("\n", 0, start - 1) + 1) : start].lstrip().startswith("#"):
        start = above
    return start


def _last_character(text: _Text, key: Node, value: Node) -> int:
    """Where the content of a pair ends; marks of blocks end only at what follows, past comments."""
    node = value
    while _is_mapping(node) and not node.flow_style:
        key, node = node.value[-1]
    end = key.end_mark.index if _is_empty(node) else node.end_mark.index
    return len(text.text[:end].rstrip())


def _after(text: _Text, position: int, lines: Sequence[str]) -> _Replacement:
    """Lines after the line of this character."""
    end = text.text.find("\n", position)
    if end < 0:
        end = len(text.text)
        return _Replacement(end, end, "".join(text.eol + line for line in lines))
    return _Replacement(end + 1, end + 1, "".join(line + text.eol for line in lines))
