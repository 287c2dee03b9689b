"""All images against all sites, and which of them to pick. Reads one state of the database."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson
from sqlalchemy import Connection, Text, case, cast, func, select

from site_db import tables
from site_db.images.fleet import Fleet, KnownImage, Place, many_rows, number_of, numbered_place
from site_db.images.matching import Counts, settle
from site_db.images.needs import Need, Predictions
from site_db.images.nvidia import Truth
from site_db.site_reports import SiteReportPart

_COUNTS = tables.image_counts.c

Answers = tuple[Truth, Truth]  # whether it starts, whether what it asks of GPUs is met

# By the number of a place, each once: the nodes there that ran an image, and those that did not.
Tests = Iterable[tuple[int, int, int]]
Observed = Mapping[int, Tests]


class Row(NamedTuple):
    """One image: nodes by answer at every site, in the order of the matrix's sites; on how many it was tried."""

    image: KnownImage
    yes: list[int]
    no: list[int]
    unknown: list[int]
    observed: list[int]

    def counts(self, position: int) -> Counts:
        """The nodes of one site."""
        return Counts(self.yes[position], self.no[position], self.unknown[position])

    @property
    def total(self) -> Counts:
        """The nodes of all sites."""
        return Counts(sum(self.yes), sum(self.no), sum(self.unknown))


@dataclass(frozen=True)
class Matrix:
    """Images by sites."""

    generated_at: datetime
    sites: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Picked(SiteReportPart):
    """One image of a pick: nodes and sites that run it; `adds`: nodes that no image before it runs."""

    image: str
    names: tuple[str, ...]
    nodes: int
    sites: int
    adds: int
    covered: int


@dataclass(frozen=True)
class Pick(SiteReportPart):
    """The images of the smallest set that was found to cover most nodes, in the order in which they add to it.

    Found greedily: each next image is the one that adds the most nodes. No set of as many covers more than 1/(1 - 1/e)
    times as many nodes (Nemhauser, Wolsey and Fisher, 1978), but a smaller one may exist.
    """

    nodes: int
    sites: int
    images: int
    chosen: tuple[Picked, ...]
    others: tuple[Picked, ...]


def read_observed(connection: Connection, since: int, site_ids: Sequence[int] | None = None) -> Observed:
    """What was observed of all images since then."""
    ran = case((_COUNTS.status == "ok", _COUNTS.nodes), else_=0)
    # One row an image, its numbers joined by commas: to read them so takes half as long as a row for each.
    columns = (numbered_place(_COUNTS.site_id, _COUNTS.profile_id), ran, _COUNTS.nodes - ran)
    query = (
        select(_COUNTS.image_id, *(func.aggregate_strings(cast(column, Text), ",") for column in columns))
        .where(_COUNTS.newest >= since, _COUNTS.status.in_(("ok", "fail", "timeout")))
        .group_by(_COUNTS.image_id)
    )
    if site_ids is not None:
        query = query.where(_COUNTS.site_id.in_(site_ids))
    return {row[0]: _tests(*row[1:]) for row in many_rows(connection, query)}


def _tests(*columns: str) -> Tests:
    places, ran, failed = (orjson.loads(f"[{column}]") for column in columns)
    if len(set(places)) == len(places):
        return list(zip(places, ran, failed, strict=True))
    merged: dict[int, tuple[int, int, int]] = {}
    for place, yes, no in zip(places, ran, failed, strict=True):  # there is one for each outcome and reason
        before = merged.get(place, (place, 0, 0))
        merged[place] = (place, before[1] + yes, before[2] + no)
    return list(merged.values())


def make_matrix(
    images: Sequence[KnownImage], fleet: Fleet, predictions: Predictions, observed: Observed, now: datetime, gpu: bool
) -> Matrix:
    """Every image at every site of the fleet; `gpu`: counting only nodes that meet what it asks of GPUs."""
    answers = _Answers(fleet, predictions, gpu)
    rows = {image.id: answers.predicted_row(image) for image in images}
    index = {number: position for position, number in enumerate(fleet.sites)}
    places = {number_of(place): (nodes, index[place[0]], place[1]) for place, nodes in fleet.nodes.items()}
    for number, row in rows.items():
        _correct(row, observed.get(number, ()), answers.of(row.image.need), places)
    return Matrix(now, tuple(fleet.sites.values()), tuple(rows[image.id] for image in images))


def _correct(row: Row, tried: Tests, said: "_Said", places: Mapping[int, tuple[int, int, int]]) -> None:
    """Let what was observed of one image outweigh what is predicted.

    `places`: by their numbers the nodes, the position of the site, and the profile.
    """
    observed, good, bad = row.observed, said.good, said.bad
    # This runs for hundreds of thousands of rows, most of which came out as predicted: those are told by sets.
    for place, yes, no in tried:
        found = places.get(place)
        if found is None:
            continue
        nodes, position, profile = found
        seen = yes + no
        observed[position] += seen if seen < nodes else nodes
        if profile in (bad if no else good) and not (yes and no):
            continue
        start, gpu = said.answers[profile]
        old, new = settle(nodes, start, gpu=gpu), settle(nodes, start, yes, no, gpu)
        row.yes[position] += new[0] - old[0]
        row.no[position] += new[1] - old[1]
        row.unknown[position] += new[2] - old[2]


class _Said(NamedTuple):
    """What the profiles say to a need. On `good` ones it changes nothing that the image ran, on `bad` ones that it failed."""

    answers: Mapping[int, Answers]
    good: frozenset[int]
    bad: frozenset[int]


def _as_predicted(answer: Answers, yes: int, no: int) -> bool:
    """Whether such tests change nothing: they came out as predicted, or GPUs forbid it anyway."""
    start, gpu = answer
    return gpu == "no" or (start == "yes" and gpu == "yes" and not no) or (start == "no" and not yes)


class _Answers:
    """What is predicted for a need, worked out once for all images that have it."""

    def __init__(self, fleet: Fleet, predictions: Predictions, gpu: bool) -> None:
        self._fleet, self._predictions, self._gpu = fleet, predictions, gpu
        self._index = {number: position for position, number in enumerate(fleet.sites)}
        self._found: dict[Need, _Said] = {}
        self._columns: dict[Need, tuple[list[int], list[int], list[int]]] = {}

    def of(self, need: Need) -> _Said:
        """The answers of every profile."""
        if need not in self._found:
            start = self._predictions.of(need)
            gpu = self._predictions.of(need, "gpu") if self._gpu else {}
            pairs = {
                number: (outcome.answer, gpu[number].answer if gpu else "yes") for number, outcome in start.items()
            }
            good = frozenset(number for number, pair in pairs.items() if _as_predicted(pair, 1, 0))
            bad = frozenset(number for number, pair in pairs.items() if _as_predicted(pair, 0, 1))
            self._found[need] = _Said(pairs, good, bad)
        return self._found[need]

    def predicted_row(self, image: KnownImage) -> Row:
        """The row of an image that nobody tried."""
        if image.need not in self._columns:
            self._columns[image.need] = self._sums(self.of(image.need).answers)
        yes, no, unknown = self._columns[image.need]
        return Row(image, list(yes), list(no), list(unknown), [0] * len(self._index))

    def _sums(self, answers: Mapping[int, Answers]) -> tuple[list[int], list[int], list[int]]:
        columns = tuple([0] * len(self._index) for _ in range(3))
        column_of = {number: columns[settle(1, pair[0], gpu=pair[1]).index(1)] for number, pair in answers.items()}
        for (site, profile), nodes in self._fleet.nodes.items():
            column_of[profile][self._index[site]] += nodes
        return columns  # type: ignore[return-value]  # three of them


def pick(images: Sequence[KnownImage], fleet: Fleet, predictions: Predictions, observed: Observed, gpu: bool) -> Pick:
    """A small set of these images that covers most of the fleet's nodes.

    Inside one place nobody knows which nodes two images share: the one that runs on more of them counts.
    """
    running = _running(images, fleet, _Answers(fleet, predictions, gpu), observed)
    covered: dict[Place, int] = {}
    chosen: list[Picked] = []
    # What an image adds never grows, so one whose old gain is beaten need not be counted again.
    waiting = [(-sum(running[image.id].values()), number) for number, image in enumerate(images)]
    heapq.heapify(waiting)
    while waiting:
        _, number = heapq.heappop(waiting)
        gain = _gain(running[images[number].id], covered)
        if waiting and (-gain, number) > waiting[0]:
            heapq.heappush(waiting, (-gain, number))
        elif gain:
            for place, nodes in running[images[number].id].items():
                covered[place] = max(nodes, covered.get(place, 0))
            chosen.append(_picked(images[number], running[images[number].id], gain, sum(covered.values())))
    taken = {item.image for item in chosen}
    rest = [image for image in images if image.reference not in taken]
    others = [_picked(image, running[image.id], 0, sum(covered.values())) for image in rest]
    others.sort(key=lambda item: (-item.nodes, item.image))
    return Pick(sum(fleet.nodes.values()), len(fleet.sites), len(images), tuple(chosen), tuple(others))


def _running(
    images: Sequence[KnownImage], fleet: Fleet, answers: _Answers, observed: Observed
) -> dict[int, dict[Place, int]]:
    """For each image the nodes that run it, place by place."""
    predicted: dict[Need, dict[Place, int]] = {}
    found = {}
    for image in images:
        if image.need not in predicted:
            said = answers.of(image.need).answers
            yes = {profile for profile, pair in said.items() if pair == ("yes", "yes")}
            predicted[image.need] = {place: nodes for place, nodes in fleet.nodes.items() if place[1] in yes}
        found[image.id] = dict(predicted[image.need])
    places = {number_of(place): (place, nodes) for place, nodes in fleet.nodes.items()}
    for image in images:
        pairs, running = answers.of(image.need).answers, found[image.id]
        for number, ran, failed in observed.get(image.id, ()):
            if number in places:
                place, nodes = places[number]
                start, gpu = pairs[place[1]]
                if not _as_predicted((start, gpu), ran, failed):
                    running[place] = settle(nodes, start, ran, failed, gpu).yes
    return found


def _gain(running: Mapping[Place, int], covered: Mapping[Place, int]) -> int:
    return sum(max(0, nodes - covered.get(place, 0)) for place, nodes in running.items())


def _picked(image: KnownImage, running: Mapping[Place, int], gain: int, covered: int) -> Picked:
    sites = len({site for (site, _), nodes in running.items() if nodes})
    return Picked(image.reference, image.names, sum(running.values()), sites, gain, covered)
