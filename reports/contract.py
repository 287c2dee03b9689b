"""The report's contract: the JSON Schema of report 1.0 as a decision and as an explanation.

The compiled validator (jsonschema-rs) decides every report; only a refused one is explained, by jsonschema.
"""

import json
from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from itertools import islice
from typing import Any, NamedTuple

import jsonschema
import jsonschema_rs
from jsonschema.exceptions import ValidationError

from reports.safe_text import shorten

VERSION = "1.0"
MAX_PROBLEMS = 20
# jsonschema needed 15 s for a hostile document of 3 MB, the compiled validator 0.1 s.
_EXPLAINED_BYTES = 256 * 1024
_VALUE_LENGTH = 60
_DETAIL_LENGTH = 300
_POINTER_LENGTH = 300


class Problem(NamedTuple):
    """One thing that is wrong with a document: where (a JSON Pointer, RFC 6901) and what. Both are printable."""

    pointer: str
    detail: str


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of report 1.0, as it stands in the package."""
    text = files("reports").joinpath("schema", "report-1.0.json").read_bytes()
    document: dict[str, Any] = json.loads(text)
    return document


@cache
def _compiled() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema())


@cache
def _explainer() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema())


def fits(document: object) -> bool:
    """Whether a parsed document is a report 1.0."""
    return _compiled().is_valid(document)


def explain(document: object, size_bytes: int) -> list[Problem]:
    """Why a document is not a report 1.0: at least one and at most MAX_PROBLEMS problems.

    jsonschema finds the words, except for documents so large that it would take long. Where the two validators
    disagree the compiled one is right: Python's `$` matches before a closing line feed, the compiled pattern does not.
    """
    found: list[Problem] = []
    if size_bytes <= _EXPLAINED_BYTES:
        errors = islice(_explainer().iter_errors(document), MAX_PROBLEMS)
        found = [Problem(pointer_of(error.absolute_path), _detail(error)) for error in errors]
    return found or [
        Problem(pointer_of(error.instance_path), shorten(error.message, _DETAIL_LENGTH))
        for error in islice(_compiled().iter_errors(document), MAX_PROBLEMS)
    ]


def pointer_of(steps: Iterable[str | int]) -> str:
    """The JSON Pointer of a path, printable and of bounded length."""
    pointer = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    return shorten(pointer, _POINTER_LENGTH)


def value_text(value: object) -> str:
    """A value of the document as one short printable piece of text."""
    if isinstance(value, dict):
        return f"an object of {len(value)} members"
    if isinstance(value, list):
        return f"a list of {len(value)} items"
    if isinstance(value, str):
        return f'"{shorten(value, _VALUE_LENGTH)}"'
    return shorten(json.dumps(value), _VALUE_LENGTH)


def _detail(error: ValidationError) -> str:
    describe = _REASON_RULES.get(_branch(error)) or _DETAILS.get(str(error.validator), _other)
    return shorten(describe(error), _DETAIL_LENGTH)


def _named(names: list[str]) -> str:
    shown = ", ".join(f'"{shorten(name, _VALUE_LENGTH)}"' for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


# jsonschema's types say that a value may be unset; in an error that its validator raised it never is.
def _wrong(error: ValidationError) -> Any:  # noqa: ANN401 - any JSON value
    return error.instance


def _rule(error: ValidationError) -> Any:  # noqa: ANN401 - any JSON value
    return error.validator_value


def _unknown_members(error: ValidationError) -> str:
    known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    unknown = [name for name in _wrong(error) if name not in known]
    return f"has a member that report {VERSION} does not know: {_named(unknown)}"


def _missing(error: ValidationError) -> str:
    return "lacks " + _named([name for name in _rule(error) if name not in _wrong(error)])


def _type(error: ValidationError) -> str:
    wanted = _rule(error)
    return f"is {value_text(_wrong(error))}, must be " + (wanted if isinstance(wanted, str) else " or ".join(wanted))


def _too_long(error: ValidationError) -> str:
    return f"is longer than {_rule(error)}: {len(_wrong(error))}"


def _enum(error: ValidationError) -> str:
    return f"is {value_text(_wrong(error))}, must be one of " + ", ".join(json.dumps(v) for v in _rule(error))


def _bound(error: ValidationError) -> str:
    return f"is {value_text(_wrong(error))}, {error.validator} is {_rule(error)}"


def _alternatives(error: ValidationError) -> str:
    return f"is {value_text(_wrong(error))}, which is none of the forms allowed here"


def _other(error: ValidationError) -> str:
    rule = json.dumps(_rule(error))
    return f"is {value_text(_wrong(error))}, which does not match the rule {error.validator} {rule}"


def _branch(error: ValidationError) -> str:
    """Which branch of the schema's rule `reason_follows_status` an error comes from, or nothing."""
    return next((str(step) for step in error.absolute_schema_path if step in ("then", "else")), "")


_REASON_RULES: dict[str, Callable[[ValidationError], str]] = {
    "then": lambda error: f"is {value_text(_wrong(error))}, but the status ok carries no reason",
    "else": lambda error: f"is {value_text(_wrong(error))}, but every status other than ok carries a reason code",
}
_DETAILS: dict[str, Callable[[ValidationError], str]] = {
    "additionalProperties": _unknown_members,
    "required": _missing,
    "type": _type,
    "maxLength": _too_long,
    "maxItems": _too_long,
    "maxProperties": _too_long,
    "enum": _enum,
    "minimum": _bound,
    "maximum": _bound,
    "anyOf": _alternatives,
}
