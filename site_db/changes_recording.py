"""Recording changes, in the transaction that stores the reports they come from.

Two collectors never weigh reports of one entry at once: both have updated the entry's totals before, which locks it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, RowMapping, bindparam, delete, func, insert, or_, select, update

from site_db import tables
from site_db.changes import Against, Answers, Deviation, EntryChanges, Heard, Watch
from site_db.dialects import insert_for, portions
from site_db.rollups import Observed, day_of
from site_db.rules import ChangeRules, Rules
from site_db.verdicts import answer_of

Row = dict[str, Any]
_CHANGES, _DEVIATIONS, _COUNTS = tables.changes.c, tables.deviations.c, tables.entry_counts.c
_DAY = timedelta(days=1) // timedelta(microseconds=1)
_PLAIN = (
    "entry_id", "capability", "direction", "state", "first_at", "first_node_id", "first_report", "last_at",
    "confirmed_at", "closed_at", "reason", "returned", "flaps",
)  # fmt: skip


def record_changes(connection: Connection, before: Sequence[Observed], rows: Sequence[Row], rules: Rules) -> None:
    """Weigh the new reports `rows`; `before` is what was observed of their nodes before them."""
    newest = {(row.entry_id, row.node_id): (row.created_at, row.profile_id) for row in before}
    earlier = Counter({(row.entry_id, row.node_id): row.reports for row in before})
    entries = _in_question(connection, newest, rows)
    rows = sorted(
        (row for row in rows if row["entry_id"] in entries), key=lambda row: (row["created_at"], row["report_id"])
    )
    if not rows:
        return
    going_on = _load(connection, entries, rows, rules)
    known = {
        entry_id: {node: dict(found) for node, found in each.deviations.items()} for entry_id, each in going_on.items()
    }
    profiles = {row["profile_id"] for row in rows} | {profile for _, profile in newest.values()}
    answers = _Answers(connection, profiles, rules)
    touched: dict[int, Watch] = {}
    for row in rows:
        key = (row["entry_id"], row["node_id"])
        earlier_at, earlier_profile = newest.get(key, (-1, None))
        if row["created_at"] < earlier_at:
            continue
        said_before = None if earlier_profile is None else answers[earlier_profile]
        now = answers[row["profile_id"]]
        heard = Heard(row["node_id"], row["created_at"], row["report"], now, said_before, earlier[key])
        earlier[key] += 1
        for watch in going_on[row["entry_id"]].take(heard):
            touched[id(watch)] = watch
        newest[key] = row["created_at"], row["profile_id"]
    _save_watches(connection, touched.values())
    _save_deviations(connection, known, going_on)


class _Answers:
    """What profiles answer, by the id of their row."""

    def __init__(self, connection: Connection, profile_ids: Iterable[int], rules: Rules) -> None:
        self._found: dict[int, Answers] = {}
        for ids in portions(sorted(profile_ids)):
            query = select(tables.profiles.c.id, tables.profiles.c.document).where(tables.profiles.c.id.in_(ids))
            self._found |= {row.id: answers_of(orjson.loads(row.document), rules) for row in connection.execute(query)}

    def __getitem__(self, profile_id: int) -> Answers:
        return self._found[profile_id]


def answers_of(profile: dict[str, Any], rules: Rules) -> Answers:
    """What a profile answers to every capability that it has a place for."""
    answers = {}
    for row in rules.capabilities:
        for capability in row.members(profile):
            answer, reason = answer_of(profile, capability)
            is_gone = answer == "unknown" and reason in rules.changes.gone
            answers[capability.name] = ("no" if is_gone else answer, reason)
    return answers


def _in_question(
    connection: Connection, newest: Mapping[tuple[int, int], tuple[int, int]], rows: Sequence[Row]
) -> set[int]:
    """The entries of which something may change: mostly few, as most reports say what the ones before them said."""
    seen = dict(newest)
    entries, new = set(), set()
    for row in sorted(rows, key=lambda row: row["created_at"]):
        key = (row["entry_id"], row["node_id"])
        if key not in seen:
            new.add(row["entry_id"])
        elif seen[key][1] != row["profile_id"]:
            entries.add(row["entry_id"])
        seen[key] = row["created_at"], row["profile_id"]
    here = {row["entry_id"] for row in rows}
    for ids in portions(sorted(here)):
        watched = select(_CHANGES.entry_id).where(
            _CHANGES.entry_id.in_(ids), _CHANGES.state.in_(("suspected", "confirmed"))
        )
        deviating = select(_DEVIATIONS.entry_id).where(_DEVIATIONS.entry_id.in_(ids)).distinct()
        entries |= set(connection.scalars(watched)) | set(connection.scalars(deviating))
    return entries | new


def _load(
    connection: Connection, entries: Collection[int], rows: Sequence[Row], rules: Rules
) -> dict[int, EntryChanges]:
    now = rows[-1]["created_at"]
    groups = _groups(connection, entries, now - rules.window_days * _DAY)
    old = _older_than(connection, entries, now - rules.changes.settle_days * _DAY)
    going_on = {}
    for entry_id in entries:
        size = sum(nodes for _, nodes in groups.get(entry_id, ()))
        each = EntryChanges(entry_id, rules.changes, size)
        if entry_id in old and size >= rules.changes.expected_nodes:
            each.expectation = _Expectation(connection, groups[entry_id], each, rules)
        going_on[entry_id] = each
    _load_watches(connection, going_on, now, rules.changes)
    nodes = sorted({row["node_id"] for row in rows})
    for ids in portions(nodes):
        query = select(tables.deviations).where(_DEVIATIONS.node_id.in_(ids), _DEVIATIONS.entry_id.in_(sorted(entries)))
        for row in connection.execute(query):
            going_on[row.entry_id].deviations.setdefault(row.node_id, {})[row.capability] = Deviation(row.expected, row.support)
    return going_on


def _groups(connection: Connection, entries: Collection[int], since: int) -> dict[int, list[tuple[int, int]]]:
    """The recent nodes of entries by profile: (profile_id, nodes)."""
    groups: dict[int, list[tuple[int, int]]] = {}
    for ids in portions(sorted(entries)):
        query = (
            select(_COUNTS.entry_id, _COUNTS.profile_id, func.sum(_COUNTS.nodes))
            .where(_COUNTS.day >= day_of(since), _COUNTS.entry_id.in_(ids))
            .group_by(_COUNTS.entry_id, _COUNTS.profile_id)
        )
        for entry_id, profile_id, nodes in connection.execute(query):
            groups.setdefault(entry_id, []).append((profile_id, int(nodes)))
    return groups


def _older_than(connection: Connection, entries: Collection[int], since: int) -> set[int]:
    days = tables.daily_nodes.c
    found: set[int] = set()
    for ids in portions(sorted(entries)):
        query = select(days.entry_id).where(days.entry_id.in_(ids), days.day < day_of(since)).distinct()
        found |= set(connection.scalars(query))
    return found


class _Expectation:
    """What a node never seen before should answer, from the others; those that deviate count as what they were."""

    def __init__(
        self, connection: Connection, groups: Sequence[tuple[int, int]], entry: EntryChanges, rules: Rules
    ) -> None:
        self._connection, self._groups, self._entry, self._rules = connection, groups, entry, rules
        self._counts: dict[str, dict[str, int]] | None = None

    def __call__(self, capability: str) -> str | None:
        counts = dict(self._tallied().get(capability, {}))
        for (name, direction), watch in self._entry.watches.items():
            if name == capability:
                was, now = ("yes", "no") if direction == "lost" else ("no", "yes")
                counts[was] = counts.get(was, 0) + len(watch.against)
                counts[now] = max(0, counts.get(now, 0) - len(watch.against))
        yes, no = counts.get("yes", 0), counts.get("no", 0)
        most = max(yes, no)
        if yes + no < self._rules.changes.expected_nodes or most < self._rules.changes.expected_share * (yes + no):
            return None
        return "yes" if yes > no else "no"

    def _tallied(self) -> dict[str, dict[str, int]]:
        if self._counts is None:
            self._counts = {}
            answers = _Answers(self._connection, [profile_id for profile_id, _ in self._groups], self._rules)
            for profile_id, nodes in self._groups:
                for capability, (answer, _) in answers[profile_id].items():
                    counts = self._counts.setdefault(capability, {})
                    counts[answer] = counts.get(answer, 0) + nodes
        return self._counts


def _load_watches(
    connection: Connection, going_on: Mapping[int, EntryChanges], now: int, rules: ChangeRules
) -> None:
    settled_before = now - rules.settle_days * _DAY
    for ids in portions(sorted(going_on)):
        query = select(tables.changes).where(
            _CHANGES.entry_id.in_(ids),
            or_(
                _CHANGES.state.in_(("suspected", "confirmed")),
                (_CHANGES.state == "closed") & (_CHANGES.closed_at >= settled_before),
            ),
        )
        for row in connection.execute(query.order_by(_CHANGES.id)).mappings():
            watch, entry = _watch(row, rules), going_on[row["entry_id"]]
            if watch.state == "confirmed" and (watch.confirmed_at or 0) < settled_before:
                _settle(connection, watch)
            else:
                kept = entry.closed if watch.state == "closed" else entry.watches
                kept[watch.capability, watch.direction] = watch


def _settle(connection: Connection, watch: Watch) -> None:
    """What an open change brought is the new normal: from now on nodes are compared with what they answer now."""
    connection.execute(update(tables.changes).where(_CHANGES.id == watch.id).values(state="settled"))
    others = select(_CHANGES.capability).where(
        _CHANGES.entry_id == watch.entry_id, _CHANGES.state.in_(("suspected", "confirmed"))
    )
    connection.execute(
        delete(tables.deviations).where(
            _DEVIATIONS.entry_id == watch.entry_id, _DEVIATIONS.capability.not_in(others)
        )
    )


def _watch(row: RowMapping, rules: ChangeRules) -> Watch:
    evidence = orjson.loads(row["evidence"])
    against = {int(node_id): Against(*told) for node_id, told in evidence["against"].items()}
    plain = {name: row[name] for name in _PLAIN}
    return Watch(**plain, rules=rules, id=row["id"], scores=evidence["scores"], against=against)


def _save_watches(connection: Connection, watches: Iterable[Watch]) -> None:
    watches = [watch for watch in watches if watch.state != "merged"]
    over = {watch.superseded for watch in watches} | {watch.id for watch in watches if watch.state == "dropped"}
    kept = [watch for watch in watches if watch.state != "dropped"]
    for watch in kept:
        if watch.id is not None:
            connection.execute(update(tables.changes).where(_CHANGES.id == watch.id).values(_row(watch)))
    if new := [_row(watch) for watch in kept if watch.id is None]:
        connection.execute(insert(tables.changes), new)
    for ids in portions(sorted(number for number in over if number is not None)):
        connection.execute(delete(tables.changes).where(_CHANGES.id.in_(ids)))


def _row(watch: Watch) -> Row:
    against = {node_id: [told.streak, told.at, told.report] for node_id, told in watch.against.items()}
    scores = [round(score, 6) for score in watch.scores]
    return {
        **{name: getattr(watch, name) for name in _PLAIN},
        "nodes": len(watch.against),
        "score": watch.score,
        "evidence": orjson.dumps({"scores": scores, "against": against}, option=orjson.OPT_NON_STR_KEYS).decode(),
    }


Deviations = dict[int, dict[int, dict[str, Deviation]]]


def _save_deviations(connection: Connection, known: Deviations, going_on: Mapping[int, EntryChanges]) -> None:
    old = {(entry_id, *key) for entry_id, each in known.items() for key in _flat(each)}
    new = {
        (entry_id, *key): deviation
        for entry_id, each in going_on.items()
        for key, deviation in _flat(each.deviations).items()
    }
    names = ("entry_id", "node_id", "capability")
    rows = [{**dict(zip(names, key, strict=True)), **new[key]._asdict()} for key in sorted(new.keys() - old)]
    if rows:
        connection.execute(insert_for(connection, tables.deviations).on_conflict_do_nothing(), rows)
    gone = [{f"of_{name}": value for name, value in zip(names, key, strict=True)} for key in sorted(old - new.keys())]
    if gone:
        same = [_DEVIATIONS[name] == bindparam(f"of_{name}") for name in names]
        connection.execute(delete(tables.deviations).where(*same), gone)


def _flat(deviations: Mapping[int, Mapping[str, Deviation]]) -> dict[tuple[int, str], Deviation]:
    return {(node, name): deviation for node, found in deviations.items() for name, deviation in found.items()}
