"""OSG autoconf: the operators' whitelist files in YAML, merged with what the factory's generator merges them with.

As OSG_autoconf.py of GlideinWMS does it: `common_entry_fields` of a site go below the entry's own; then comes what the
OSG collector said (OSG.yml and missing.yml, where they are beside the whitelist), then default.yml. A None takes a value
away. What has no value in the end is not written. The generator pastes values into XML as they are, so `&quot;` in the
file is a quote in the factory. It reads YAML 1.1.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from xml.sax.saxutils import unescape

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLStreamError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from site_db.configuration.model import BrokenFile, Entry, Parsed, Problem, Setting
from site_db.configuration.yaml_size import YamlSize

COMMON = "common_entry_fields"
_ENTRY_LIMIT = 100_000
# What the generator puts in where an attribute says nothing (DEFAULT_ATTRS in config_util.py).
_FLAGS = {"const": "True", "glidein_publish": "True", "job_publish": "False", "parameter": "True", "publish": "True"}
_ENTITIES = {"&quot;": '"', "&apos;": "'"}
# What ruamel's constructors raise for a value that does not fit its explicit tag (`!!bool x`, `!!int ""`).
_OF_TAGS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError)
_LONG_BOOLEAN = re.compile("^(?:yes|Yes|YES|no|No|NO)$")
_NULLS = frozenset({"tag:yaml.org,2002:null"})


@dataclass(frozen=True)
class Sources:
    """What a whitelist is merged with: the mapping of default.yml for an entry, and the generated OSG.yml."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    collected: Mapping[str, Any] = field(default_factory=dict)


class Located(NamedTuple):
    """One entry of a whitelist: its steps (site, gatekeeper, section, name), its key and what the file says of it."""

    path: tuple[str, str, str, str]
    key: ScalarNode
    node: Node


def load_yaml(data: bytes, file: str) -> Any:  # noqa: ANN401 - YAML has no narrower type
    """The plain values of one YAML 1.1 document. Raises BrokenFile with the place."""
    return _reading(data, file, lambda yaml, text: yaml.load(text))


def compose_yaml(data: bytes, file: str) -> Node | None:
    """The nodes of one YAML document, with their places as characters of the text. Raises BrokenFile."""
    node: Node | None = _reading(data, file, lambda yaml, text: yaml.compose(text))
    return node


def decode(data: bytes, file: str) -> str:
    """The text without a byte order mark; encoded again it is the same bytes. Raises BrokenFile."""
    try:
        return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BrokenFile(f"{file}:{line}", "not UTF-8 text") from error


def _reading(data: bytes, file: str, read: Any) -> Any:  # noqa: ANN401 - see load_yaml
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 1)
    _take_letters_as_text(yaml)
    text = decode(data, file)
    try:
        return read(yaml, text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise BrokenFile(place, f"not valid YAML: {error.problem or error.context}") from error
    except (YAMLError, YAMLStreamError, RecursionError, *_OF_TAGS) as error:
        raise BrokenFile(file, f"not valid YAML: {' '.join(str(error).split())}") from error


def _take_letters_as_text(yaml: YAML) -> None:
    """YAML 1.1 has `y` and `n` for true and false, the reader that the generator uses has not."""
    by_letter = yaml.resolver.versioned_resolver
    for letter in "yYnN":
        by_letter[letter] = [
            (tag, _LONG_BOOLEAN if tag.endswith(":bool") else pattern) for tag, pattern in by_letter.get(letter, [])
        ]


def entry_defaults(document: Any, file: str) -> Mapping[str, Any]:  # noqa: ANN401 - any YAML
    """What default.yml says for every entry. Raises BrokenFile."""
    places = [("DEFAULT_SITE", "DEFAULT_GETEKEEPER", "DEFAULT_ENTRY"), ("DEFAULT_ENTRY",)]  # the first as spelt there
    for steps in places:
        found = document
        for step in steps:
            found = found.get(step) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            return found
    raise BrokenFile(f"{file}:1", "no DEFAULT_ENTRY in it", "Give autoconf's default.yml.")


def locate_yaml_entries(data: bytes, file: str) -> list[Located]:
    """The entries of a whitelist in its order, with their nodes. Raises BrokenFile."""
    root = compose_yaml(data, file)
    if root is None:
        return []
    found = []
    for site, _, gatekeepers in _pairs(root, file, "sites"):
        for gatekeeper, _, sections in _pairs(gatekeepers, file, f"gatekeepers of {site}"):
            if gatekeeper == COMMON:
                continue
            for section, _, entries in _pairs(sections, file, f"sections of {gatekeeper}"):
                for name, key, node in _pairs(entries, file, f"entries of {gatekeeper} {section}"):
                    found.append(Located((site, gatekeeper, section, name), key, node))
        if len(found) > _ENTRY_LIMIT:
            raise BrokenFile(file, f"more than {_ENTRY_LIMIT} entries")
    return found


def _pairs(node: Node, file: str, what: str) -> Iterator[tuple[str, ScalarNode, Node]]:
    if node.tag in _NULLS or (isinstance(node, ScalarNode) and not node.value):
        return
    if not isinstance(node, MappingNode):
        raise BrokenFile(place_of(node, file), f"the {what} are to stand here as NAME: ...")
    for key, value in node.value:
        if not isinstance(key, ScalarNode):
            raise BrokenFile(place_of(key, file), f"the {what} are to have plain names")
        yield str(key.value), key, value


def place_of(node: Node, file: str) -> str:
    """FILE:LINE of a node."""
    return f"{file}:{node.start_mark.line + 1}"


def parse_autoconf(data: bytes, file: str, sources: Sources) -> Parsed:
    """The entries of a whitelist as the factory gets them. Raises BrokenFile."""
    located = locate_yaml_entries(data, file)
    document = load_yaml(data, file) or {}
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    size = YamlSize(file)
    for item in located:
        site, gatekeeper, section, name = item.path
        own = _own(document, item.path)
        if not isinstance(own, Mapping):
            raise BrokenFile(place_of(item.node, file), f"the settings of {name} are to stand here as NAME: ...")
        if name in entries:
            text = f"entry {name} stands in this file twice; the factory's XML would hold both, the last counts"
            problems.append(Problem(place_of(item.key, file), text))
        size.add(own, _find(document, (site, COMMON)), _collected(item.path, sources), sources.defaults)
        merged = merge(item.path, own, document, sources)
        lines = {kind: _key_lines(item.node, kind) for kind in ("attrs", "submit_attrs")}
        entries[name] = Entry(
            name=name,
            line=item.key.start_mark.line + 1,
            enabled=str(merged.get("enabled", True)).lower() == "true",
            gatekeeper=gatekeeper,
            gridtype=pasted_text(merged.get("gridtype")),
            attrs=_attrs(merged.get("attrs"), lines["attrs"], item, file, problems),
            submit_attrs=_submit_attrs(merged.get("submit_attrs"), lines["submit_attrs"]),
            section=f"{site}/{gatekeeper}/{section}",
        )
    return Parsed("autoconf", entries=tuple(entries.values()), problems=tuple(problems))


def merge(
    path: tuple[str, str, str, str], own: Mapping[str, Any], document: Mapping[str, Any], sources: Sources
) -> dict[str, Any]:
    """What the generator makes of one entry."""
    site = path[0]
    common, collected = _find(document, (site, COMMON)), _collected(path, sources)
    merged = update(_copy(common), own) if isinstance(common, Mapping) else _copy(own)
    _append_values(merged, collected)
    if isinstance(collected, Mapping):
        merged = update(merged, collected, overwrite=False)
    else:
        # Without the collector's word the site is still certain: it is the key that the entry stands under.
        merged = update(merged, {"gridtype": "condor", "attrs": {"GLIDEIN_Site": {"value": site}}}, overwrite=False)
    _gpus(merged)
    merged = update(merged, sources.defaults, overwrite=False)
    # The generator writes this one into every entry, whatever was said.
    merged.setdefault("attrs", {})["GLIDEIN_REQUIRED_OS"] = {"value": "any"}
    return merged


def _collected(path: tuple[str, str, str, str], sources: Sources) -> Any:  # noqa: ANN401 - any YAML
    return _find(sources.collected, (*path[:3], "DEFAULT_ENTRY"))


def _append_values(merged: dict[str, Any], collected: Any) -> None:  # noqa: ANN401 - any YAML
    attrs = merged.get("attrs")
    for name, about in attrs.items() if isinstance(attrs, Mapping) else ():
        if isinstance(about, dict) and "append_value" in about:
            about.setdefault("value", about["append_value"])
            more = _find(collected, ("attrs", name, "value"))
            if more is not None:
                about["value"] = f"{about['value']},{more}"


def _gpus(merged: dict[str, Any]) -> None:
    requested = _find(merged, ("submit_attrs", "Request_GPUs"))
    if requested is None or merged.get("gridtype") != "condor":
        return
    whole = str(_find(merged, ("submit_attrs", "+WantWholeNode"))).lower() == "true"
    attrs = merged.get("attrs") or {}
    attrs.setdefault("GLIDEIN_Resource_Slots", {"value": "GPUs,type=main" if whole else f"GPUs,{requested},type=main"})
    merged["attrs"] = attrs


def update(data: dict[str, Any], more: Mapping[str, Any], overwrite: bool = True) -> dict[str, Any]:
    """`data` with the values of `more`: deep; a None in `more` takes a key away, one in `data` stays."""
    for key, value in more.items():
        if value is None:
            data.pop(key, None)
        elif isinstance(value, Mapping):
            below = data.get(key, {})
            if below is not None:
                data[key] = update(dict(below) if isinstance(below, Mapping) else {}, value, overwrite)
        elif overwrite or key not in data:
            data[key] = value
    return data


def _attrs(
    attrs: Any,  # noqa: ANN401 - any YAML
    lines: Mapping[str, int],
    item: Located,
    file: str,
    problems: list[Problem],
) -> dict[str, Setting]:
    settings = {}
    for name, about in sorted(attrs.items(), key=lambda pair: str(pair[0])) if isinstance(attrs, Mapping) else ():
        if not isinstance(about, Mapping):
            if about is not None:
                place = f"{file}:{lines.get(name, item.key.start_mark.line + 1)}"
                problems.append(Problem(place, f"{name} of {item.path[-1]} is no mapping with a value: left out"))
            continue
        if pasted_text(about.get("value")) is None:
            continue
        flags = {**_FLAGS, **{key: str(flag) for key, flag in about.items() if key not in ("value", "type")}}
        kind = str(about.get("type", "string"))
        settings[str(name)] = Setting(str(name), pasted_text(about["value"]) or "", kind, flags, lines.get(name))
    return settings


def _submit_attrs(attrs: Any, lines: Mapping[str, int]) -> dict[str, Setting]:  # noqa: ANN401 - any YAML
    pairs = attrs.items() if isinstance(attrs, Mapping) else ()
    texts = {str(name): pasted_text(value) for name, value in pairs}
    return {
        name: Setting(name, text, line=lines.get(name)) for name, text in sorted(texts.items()) if text is not None
    }


def pasted_text(value: Any) -> str | None:  # noqa: ANN401 - any YAML
    """A scalar as the XML holds it in the end, with its references read; None for what is no scalar."""
    if value is None or isinstance(value, Mapping | list):
        return None
    text = re.sub(r"&#(\d{1,7});", lambda match: _character(int(match[1])), str(value))
    return unescape(text, _ENTITIES)


def _character(code: int) -> str:
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"


def _own(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:  # noqa: ANN401 - any YAML
    """What the document says at these steps. Keys that YAML 1.1 reads as a number or a boolean are found by their text."""
    found: Any = document
    for step in path:
        found = found.get(step, found.get(_retyped(step)))
    return {} if found is None else found


def _retyped(step: str) -> Any:  # noqa: ANN401 - any YAML scalar
    return load_yaml(step.encode(), "key")


def _find(data: Any, steps: tuple[str, ...]) -> Any:  # noqa: ANN401 - any YAML
    for step in steps:
        data = data.get(step) if isinstance(data, Mapping) else None
    return data


def _copy(value: Any) -> Any:  # noqa: ANN401 - any YAML
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def child(node: Node, name: str) -> tuple[ScalarNode, Node] | None:
    """The last pair of this name in a mapping node."""
    pairs = node.value if isinstance(node, MappingNode) else []
    return next(((key, value) for key, value in reversed(pairs) if getattr(key, "value", None) == name), None)


def _key_lines(node: Node, kind: str) -> dict[str, int]:
    found = child(node, kind)
    pairs = found[1].value if found and isinstance(found[1], MappingNode) else []
    return {str(key.value): key.start_mark.line + 1 for key, _ in pairs}
