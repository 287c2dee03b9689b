"""Matrices of names by capability, with the filters that sites and entries share."""

from collections.abc import Callable, Collection, Iterable, Sequence
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


def wanted(asked: Asked) -> Callable[[Sequence[str], Labels, Iterable[Verdict]], bool]:
    """What tells whether a row (its names, labels, verdicts) is among those that were asked for. Raises WrongQuestion."""
    part = asked.text("q").casefold()
    given = {field: asked.text(name) for name, field in (("vo", "vos"), ("factory", "factories"), ("region", "countries"))}
    labelled = [(field, value) for field, value in given.items() if value]
    answers = _ANSWERS[answer][1] if (answer := asked.one_of("answer", tuple(_ANSWERS))) else ()
    capability = asked.one_of("capability", MATRIX, "singularity")

    def fits(names: Sequence[str], labels: Labels, verdicts: Iterable[Verdict]) -> bool:
        if part and not any(part in name.casefold() for name in names):
            return False
        if any(value not in getattr(labels, field) for field, value in labelled):
            return False
        return not answers or any(item.capability == capability and item.answer in answers for item in verdicts)

    return fits


def last_report(item: SiteSummary | EntrySummary, now: datetime) -> Cell:
    """When it was last heard of."""
    return cells.when(item.freshness.newest, now)
