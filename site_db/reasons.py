"""What a reason code means, and what site and factory can do: the probe's own table, read as data."""

import functools
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True)
class Reason:
    """One reason code with its title, what it means for jobs, and who can do what. None: nothing is known."""

    code: str
    title: str | None = None
    jobs: str | None = None
    site_remedy: str | None = None
    factory_remedy: str | None = None


def explain_reason(code: str) -> Reason:
    """The reason `code` in words; a code of a newer probe has none."""
    return _table().get(code) or Reason(code)


def all_reasons() -> tuple[Reason, ...]:
    """Every reason that this release knows, by code."""
    return tuple(sorted(_table().values(), key=lambda reason: reason.code))


@functools.cache
def _table() -> dict[str, Reason]:
    text = (resources.files("probe") / "data" / "reasons.json").read_text(encoding="utf-8")
    names = ("code", "title", "jobs", "site_remedy", "factory_remedy")
    return {row["code"]: Reason(**{name: row[name] for name in names}) for row in json.loads(text)["reasons"]}
