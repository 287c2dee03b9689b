"""Matrices of names by capability, with the filters that sites and entries share."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from reports.pages import cells
from reports.pages.asked import Asked
from reports.pages.centre import MATRIX, title_of
from reports.pages.model import Cell, Choice, Column, Form
from site_db.site_labels import Labels
from site_db.site_reports import EntrySummary, SiteSummary
from site_db.verdicts import Verdict

_ANSWERS = {
    "trouble": ("no or mixed", ("no", "mixed")),
    "no": ("no", ("no",)),
    "mixed": ("mixed", ("mixed",)),
    "yes": ("yes", ("yes",)),
    "unknown": ("not known", ("unknown",)),
}
_ANY = ("", "any")


def columns() -> list[Column]:
    """One column for each capability."""
    return [Column(name, title, title_of(name)) for name, title in MATRIX.items()]


def row(verdicts: Iterable[Verdict]) -> list[Cell]:
    """The cells of one site or entry."""
    by_name = {verdict.capability: verdict for verdict in verdicts}
    return [cells.verdict(by_name.get(name)) for name in MATRIX]


def filters(labels: Collection[Labels], hint: str) -> Form:
    """The form above a matrix. Labels that nobody has are not offered."""
    choices = [Choice("q", "Name contains", hint=hint)]
    kinds = (
        ("vo", "VO", {name for label in labels for name in label.vos}),
        ("factory", "Factory", {name for label in labels for name in label.factories}),
        ("region", "Region", {name for label in labels for name in label.countries}),
    )
    for name, title, values in kinds:
        if values:
            choices.append(Choice(name, title, [_ANY, *((value, value) for value in sorted(values))]))
    choices.append(Choice("capability", "Capability", [_ANY, *MATRIX.items()]))
    choices.append(Choice("answer", "Answer", [_ANY, *((word, text) for word, (text, _) in _ANSWERS.items())]))
    return Form(choices, "Filter")


def fits(asked: Asked, names: Sequence[str], labels: Labels, verdicts: Iterable[Verdict]) -> bool:
    """Whether a row is among those that were asked for. Raises WrongQuestion."""
    wanted = asked.text("q").casefold()
    if wanted and not any(wanted in name.casefold() for name in names):
        return False
    pairs = (("vo", labels.vos), ("factory", labels.factories), ("region", labels.countries))
    if any(asked.text(name) and asked.text(name) not in values for name, values in pairs):
        return False
    answer = asked.one_of("answer", tuple(_ANSWERS))
    if not answer:
        return True
    capability = asked.one_of("capability", MATRIX, "singularity")
    return any(verdict.capability == capability and verdict.answer in _ANSWERS[answer][1] for verdict in verdicts)


def last_report(item: SiteSummary | EntrySummary, now: datetime) -> Cell:
    """When it was last heard of."""
    return cells.when(item.freshness.newest, now)
