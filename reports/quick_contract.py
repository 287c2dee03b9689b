"""A quick yes: whether a text is plainly a report, by types made from the schema (msgspec) that parse and check at once.

It says yes only where the schema and the rules of `intake` do; a test holds it to that. Whatever it says no to, `intake`
looks at in full: it alone refuses, and finds the words. So its rules may be narrower: no text with \\u escapes, among
which are the characters that are refused and quotes that would hide a member given twice.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Union

import msgspec

from reports import contract

_NOTED = ("description", "title", "$schema", "$id", "$defs")
_REASON_RULE = {"$ref": "#/$defs/reason_follows_status"}


class Plain(NamedTuple):
    """What of a report is looked at before it is stored."""

    report_id: str
    created_at: str
    glidein: dict[str, str | None]


class Unsupported(Exception):
    """The schema says something that the quick types cannot."""


def plain(raw: bytes) -> Plain | None:
    """What a text says that is plainly a report; None for every other, which may still be one."""
    if b"\\" in raw and b"\\u" in raw:  # one byte is found seven times as fast as two
        return None
    try:
        report = _decoder().decode(raw)
        datetime.fromisoformat(report.created_at)
    except ValueError:  # msgspec's errors, and a moment that does not exist
        return None
    # A member given twice is dropped, with the quotes of its name: equal counts prove that there was none.
    again = _encoder.encode(report)
    if again != raw and again.count(b'"') != raw.count(b'"'):
        return None
    return Plain(report.report_id, report.created_at, msgspec.structs.asdict(report.glidein))


_encoder = msgspec.json.Encoder()


@cache
def _decoder() -> "msgspec.json.Decoder[Any]":
    return msgspec.json.Decoder(_Types(contract.schema()).whole)


def _reason_follows_status(found: Any) -> None:  # noqa: ANN401 - a struct made from the schema
    if (found.status == "ok") != (found.reason is None):
        raise ValueError


def _has_all(member: str, names: frozenset[str]) -> Callable[[Any], None]:
    def check(found: Any) -> None:  # noqa: ANN401 - likewise
        if not names <= getattr(found, member).keys():
            raise ValueError

    return check


class _Types:
    """msgspec's types for a schema. Raises Unsupported for a keyword that it does not know: no rule is to be lost."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._definitions = schema["$defs"]
        self._made: dict[str, Any] = {}
        self._structs = 0
        self.whole = self._type(schema)

    def _type(self, given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a type, or what msgspec takes as one
        rules = {name: rule for name, rule in given.items() if name not in _NOTED}
        if "$ref" in rules:
            return self._referred(rules)
        if "const" in rules:
            return _only(rules, "const", Literal[rules["const"]])
        if "enum" in rules:
            return _only(rules, "enum", Literal[tuple(rules["enum"])])
        if "anyOf" in rules:
            return _only(rules, "anyOf", Union[tuple(map(self._type, rules["anyOf"]))])  # noqa: UP007 - their number is not known
        names = rules.pop("type")
        names = [names] if isinstance(names, str) else names
        found = [_OF_TYPE[name](self, rules) for name in names]
        if rules:
            raise Unsupported(", ".join(rules))
        return Union[tuple(found)]  # noqa: UP007 - likewise

    def _referred(self, rules: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as in _type
        name = rules["$ref"].rpartition("/")[2]
        if name not in self._made:
            self._made[name] = self._type(self._definitions[name])
        return _only(rules, "$ref", self._made[name])

    def _object(self, rules: dict[str, Any]) -> Any:  # noqa: ANN401 - as in _type
        return self._struct(rules) if rules.get("additionalProperties") is False else self._map(rules)

    def _map(self, rules: dict[str, Any]) -> Any:  # noqa: ANN401 - as in _type
        name = self._type({"type": "string", **rules.pop("propertyNames", {})})
        bounds = _bounds(rules, {"maxProperties": "max_length", "minProperties": "min_length"})
        return Annotated[dict[name, self._type(rules.pop("additionalProperties"))], bounds]  # type: ignore[misc,valid-type]  # made here

    def _struct(self, rules: dict[str, Any]) -> Any:  # noqa: ANN401 - as in _type
        del rules["additionalProperties"]
        required = set(rules.pop("required"))
        # msgspec calls it for each object, and takes a ValueError for a no. More than one rule no object has.
        check: Callable[[Any], None] | None = None
        if "allOf" in rules:
            if rules.pop("allOf") != [_REASON_RULE]:
                raise Unsupported("allOf")
            check = _reason_follows_status
        members: list[Any] = []
        for name, member in rules.pop("properties").items():
            # A map with members that must be there: the one that holds it looks.
            if "required" in member and member.get("additionalProperties") is not False:
                if check:
                    raise Unsupported("required")
                check = _has_all(name, frozenset(member["required"]))
                member = {rule: value for rule, value in member.items() if rule not in ("required", "properties")}
            made = self._type(member)
            members.append((name, made) if name in required else (name, made | msgspec.UnsetType, msgspec.UNSET))
        self._structs += 1
        return msgspec.defstruct(
            f"Object{self._structs}",
            members,
            namespace={"__post_init__": check} if check else {},
            kw_only=True,
            forbid_unknown_fields=True,
            gc=False,
        )

    def _list(self, rules: dict[str, Any]) -> Any:  # noqa: ANN401 - as in _type
        return Annotated[list[self._type(rules.pop("items"))], _bounds(rules, {"maxItems": "max_length"})]  # type: ignore[misc]  # made here


def _only(rules: Mapping[str, Any], keyword: str, found: Any) -> Any:  # noqa: ANN401 - a type
    if set(rules) != {keyword}:
        raise Unsupported(", ".join(rules))
    return found


def _bounds(rules: dict[str, Any], names: Mapping[str, str]) -> msgspec.Meta:
    return msgspec.Meta(**{ours: rules.pop(theirs) for theirs, ours in names.items() if theirs in rules})


def _text(_types: _Types, rules: dict[str, Any]) -> Any:  # noqa: ANN401 - a type
    found = {"max_length": rules.pop("maxLength")} if "maxLength" in rules else {}
    if "pattern" in rules:
        # Python's $ also matches before a closing line feed, the schema's does not.
        found["pattern"] = re.sub(r"\$$", r"\\Z", rules.pop("pattern"))
    return Annotated[str, msgspec.Meta(**found)] if found else str


def _number(kind: type) -> Callable[[_Types, dict[str, Any]], Any]:
    def made(_types: _Types, rules: dict[str, Any]) -> Any:  # noqa: ANN401 - a type
        bounds = _bounds(rules, {"minimum": "ge", "maximum": "le"})
        return Annotated[kind, bounds] if bounds != msgspec.Meta() else kind

    return made


_OF_TYPE: Mapping[str, Callable[[_Types, dict[str, Any]], Any]] = {
    "null": lambda _types, _rules: None,
    "boolean": lambda _types, _rules: bool,
    "string": _text,
    "integer": _number(int),
    "number": _number(float),
    "array": _Types._list,
    "object": _Types._object,
}
