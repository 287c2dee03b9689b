"""The OpenAPI 3.1 description, built from the route table and the report's schema: it cannot drift from either."""

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple

from reports import contract, problems
from reports.version import VERSION

_PROBLEM = {"$ref": "#/components/responses/Problem"}
JSON = "application/json"


class Operation(NamedTuple):
    """What the description says about one route."""

    summary: str
    answer: str
    media_type: str = JSON
    # Name of a path parameter, and what it is.
    parameter: tuple[str, str] | None = None
    # Statuses that are answered with problem details; 500 always is.
    refusals: tuple[int, ...] = ()
    # Members of the description that only this operation has; they replace those made here.
    extra: dict[str, Any] = {}


class Described(NamedTuple):
    """One row of the route table, as far as the description needs it."""

    path: str
    method: str
    operation: Operation


_BINARY_NOTE = "May be compressed: Content-Encoding gzip or zstd."
RECEIVE = Operation(
    "Send one report, or a batch with one report a line; answered after it is durable",
    "Known already (one report), or one result a line (a batch)",
    refusals=(400, 401, 403, 408, 413, 415, 422, 429, 503),
    extra={
        "requestBody": {
            "required": True,
            "description": _BINARY_NOTE,
            "content": {
                JSON: {"schema": {"$ref": "#/components/schemas/Report"}},
                "application/x-ndjson": {"schema": {"type": "string", "description": "One report a line"}},
            },
        },
        "responses": {
            "200": {
                "description": "Known already (one report), or one result a line (a batch)",
                "content": {
                    JSON: {"schema": {"$ref": "#/components/schemas/Receipt"}},
                    "application/x-ndjson": {"schema": {"$ref": "#/components/schemas/LineResult"}},
                },
            },
            "201": {
                "description": "Stored",
                "content": {JSON: {"schema": {"$ref": "#/components/schemas/Receipt"}}},
            },
        },
    },
)
CHANGED: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "query", "description": told, "schema": {"type": "string"}}
        for name, told in (
            ("since", "Only changes seen since then, RFC 3339"),
            ("entry", "Only this entry"),
            ("site", "Only this site"),
            ("capability", "Only this capability"),
        )
    ]
}
PAGED: dict[str, Any] = {
    "parameters": [
        {
            "name": "after",
            "in": "query",
            "description": "Where this page begins: the member `next` of the page before",
            "schema": {"type": "string"},
        }
    ]
}
OF_ONE_ENTRY: dict[str, Any] = {
    "parameters": [
        {
            "name": "entry",
            "in": "query",
            "description": "Only this entry, by its name; without it all enabled ones",
            "schema": {"type": "string"},
        }
    ]
}
_PROBLEM_LIST = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["pointer", "detail"],
        "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
    },
}
_SCHEMAS: dict[str, Any] = {
    "Receipt": {
        "type": "object",
        "required": ["report_id", "status"],
        "properties": {"report_id": {"type": "string"}, "status": {"enum": ["new", "known"]}},
    },
    "LineResult": {
        "type": "object",
        "required": ["line", "report_id", "status", "problems"],
        "properties": {
            "line": {"type": "integer", "minimum": 1},
            "report_id": {"type": ["string", "null"]},
            "status": {"enum": ["new", "known", "rejected"]},
            "problems": _PROBLEM_LIST,
        },
    },
    "Problem": {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "errors": _PROBLEM_LIST,
        },
    },
}


def description(rows: Iterable[Described]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Collector of the Singularity compatibility probe",
            "version": VERSION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**_SCHEMAS, **_report_schemas()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A token of an entry writes, a reader's token reads; in the open mode neither is needed.",
                }
            },
            "responses": {
                "Problem": {
                    "description": "Problem details (RFC 9457)",
                    "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
        },
    }


def _operation(row: Described) -> dict[str, Any]:
    about = row.operation
    described: dict[str, Any] = {
        "operationId": row.method.lower() + "".join(c if c.isalnum() else "_" for c in row.path),
        "summary": about.summary,
        "responses": {"200": {"description": about.answer, "content": {about.media_type: {}}}},
    }
    if about.parameter:
        name, text = about.parameter
        schema = {"type": "string"}
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "description": text, "schema": schema}
        ]
    if 401 in about.refusals:
        described["security"] = [{"token": []}, {}]
    described.update(copy.deepcopy(about.extra))
    described["responses"].update({str(status): _PROBLEM for status in (*about.refusals, 500)})
    return described


def _report_schemas() -> dict[str, Any]:
    """The report's schema as components: its definitions become neighbours, which every tool resolves."""
    report = copy.deepcopy(contract.schema())
    definitions = report.pop("$defs")
    for keyword in ("$schema", "$id"):
        del report[keyword]
    named = {"Report": report, **{f"report_{name}": value for name, value in definitions.items()}}
    _move_references(named)
    return named


def _move_references(value: Any) -> None:  # noqa: ANN401 - any part of a JSON document
    if isinstance(value, list):
        for item in value:
            _move_references(item)
    if not isinstance(value, dict):
        return
    reference = value.get("$ref")
    if isinstance(reference, str):
        value["$ref"] = reference.replace("#/$defs/", "#/components/schemas/report_")
    for member in value.values():
        _move_references(member)
