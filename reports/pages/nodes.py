"""All nodes, and one node: its last report told to people."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from reports.pages import beginning, cells, told
from reports.pages.arranging import MOST_ROWS, ROWS_A_PAGE
from reports.pages.asked import Asked
from reports.pages.centre import Centre
from reports.pages.model import (
    UNKNOWN,
    Block,
    Cell,
    Choice,
    Column,
    Facts,
    Form,
    Grid,
    Group,
    Notice,
    Page,
    Point,
    Target,
)
from site_db import views
from site_db.reasons import explain_reason
from site_db.site_reports import NodePage, NodeReport

_FAILED = ("fail", "timeout", "unknown")
_KINDS = {"ok": "yes", "fail": "no", "timeout": "no", "unknown": "unknown", "skipped": "skipped"}
_VERDICTS = {
    True: ("Containers work", "yes"),
    False: ("Containers do not work", "no"),
    None: ("It is not known whether containers work", "unknown"),
}

Report = Mapping[str, Any]


def nodes(centre: Centre, asked: Asked) -> Page:
    """Nodes by machine id, a portion at a time; or those whose host name begins so."""
    now = centre.now()
    begin, after = asked.text("begins"), asked.text("after")
    most = asked.number("rows", views.NODES_A_PAGE if asked.text("format") else ROWS_A_PAGE, most=MOST_ROWS)
    found: NodePage = centre.kept.ask(
        ("nodes", begin, after, most),
        lambda: views.nodes_called(centre.store, begin, most) if begin else views.list_nodes(centre.store, after, most),
    )
    rows = [
        [
            Cell(node.hostname, node.hostname, "name", Target("node", node.machine_id)),
            cells.text(node.machine_id, "code"),
            cells.count(node.entries),
            cells.count(node.reports),
            cells.when(node.newest, now),
        ]
        for node in found.nodes
    ]
    columns = [
        Column("node", "Node"),
        Column("machine_id", "Machine id", "a salted hash"),
        Column("entries", "Entries", numeric=True),
        Column("reports", "Reports", numeric=True),
        Column("newest", "Last report (UTC)"),
    ]
    caption = f"Nodes whose name begins with {begin}" if begin else "Nodes by machine id"
    empty = "No node's name begins so; a machine id goes behind nodes/ in the address." if begin else "No node yet."
    blocks: list[Block] = [
        Form([Choice("begins", "Host name begins with", hint="for example wn17")], "Find"),
        Grid("nodes", caption, columns, rows, True, empty),
    ]
    if not (rows or begin or after):
        blocks[0] = beginning.first_report()
    if found.next:
        query = (("after", found.next), *([("rows", str(most))] if asked.text("rows") else []))
        blocks.append(Group("more", "", [], more=Cell(None, "The nodes that follow", "", Target("nodes", None, query))))
    return Page("Nodes", "nodes", now, blocks, ["Worker nodes that ever reported, and when they did last."])


def node(centre: Centre, asked: Asked, name: str) -> Page:  # noqa: ARG001 - the shape of all pages
    """One node. Raises UnknownName, AmbiguousName."""
    found = views.node_report(centre.store, name, centre.now())
    now = found.generated_at
    raw = centre.store.raw_report(UUID(found.report_id).bytes) if found.report_id else None
    report: Report | None = orjson.loads(raw) if raw else None
    blocks: list[Block] = [_about(found, report)]
    blocks += _told(report) if report else [told.troubles(found.verdicts)]
    blocks += [_seen(found, now), told.capabilities(found.verdicts)]
    blocks += [_checks(report)] if report else []
    blocks += told.images(found.images, now)
    lead = [] if found.recent else [f"Nothing was heard of it within {found.window_days} days."]
    if report is None:
        lead.append("Its last report is not kept any more; below is what was derived from it.")
    return Page(found.hostname, "nodes", now, blocks, lead, trail=_trail(found))


def _trail(found: NodeReport) -> list[Cell]:
    if not found.seen:
        return [Cell(None, "Nodes", "", Target("nodes"))]
    place = found.seen[0]
    return [cells.name(place.site, "site"), cells.entry(place.entry, place.factory)]


def _about(found: NodeReport, report: Report | None) -> Facts:
    rows = [("Machine id", cells.text(found.machine_id, "code")), ("Report", cells.text(found.report_id, "code"))]
    if report is None:
        return Facts("", rows)
    host, probe = report["host"], report["probe"]
    cores = f"{host['cores_usable'] or '?'} of {host['cores'] or '?'}"
    rows += [
        ("Reported (UTC)", cells.when(datetime.fromisoformat(report["created_at"]), found.generated_at)),
        ("System", cells.text(host["os"]["name"])),
        ("Kernel", cells.text(host["kernel"]["release"])),
        ("CPU", cells.text(" ".join(filter(None, (host["arch"], host["cpu_model"])))), ),
        ("Cores usable", cells.text(cores)),
        ("Inside a container", cells.text(host["container"]["kind"] or "no")),
        ("Probe", cells.text(f"{probe['version']}, {probe['trigger']}")),
    ]
    if not report["complete"]:
        rows.append(("Report is", Cell(False, "cut short", "mixed")))
    return Facts("", rows)


def _told(report: Report) -> list[Block]:
    """The last report as `explain` tells it on the node: the verdict, each cause once, what would work instead."""
    singularity = report["singularity"]
    title, kind = _VERDICTS[singularity["usable"]]
    product = " ".join(filter(None, (singularity["product"], singularity["version"])))
    points = [
        Point("With", f"{product or 'no Singularity'}, {singularity['mode'] or 'no mode works'}"),
        *([Point("Because", singularity["message"])] if singularity["message"] else []),
        *([Point("Command", singularity["command"], True)] if singularity["command"] else []),
    ]
    causes, reason = _by_reason(report["checks"]), singularity["reason"]
    # A cause of its own says what to do; where no check has it, the verdict does.
    points += told.remedies(explain_reason(reason)) if reason and reason not in causes else []
    link = Target("reason", reason) if reason else None
    headline = Notice(Cell(singularity["usable"], title, "", link, reason or ""), points, kind)
    notices = [headline, *(_cause(code, rows) for code, rows in causes.items()), *_alternatives(singularity)]
    return [Group("told", "What the last report says", notices)]


def _by_reason(checks: Sequence[Report]) -> dict[str, list[Report]]:
    found: dict[str, list[Report]] = {}
    for check in checks:
        if check["status"] in _FAILED and check["reason"] not in told.ABSENT:
            found.setdefault(check["reason"] or "", []).append(check)
    return found


def _cause(code: str, checks: Sequence[Report]) -> Notice:
    reason, first = explain_reason(code), checks[0]
    points = [Point("Where", ", ".join(check["id"] for check in checks))]
    points += [Point("Evidence", message) for message in dict.fromkeys(check["message"] for check in checks) if message]
    command = (first["evidence"] or {}).get("command")
    points += [Point("Command", str(command), True)] if command else []
    points += [Point("The probe advises", first["remedy"])] if first["remedy"] else []
    link = Target("reason", code) if code else None
    return Notice(Cell(code, told.titled(reason), "", link, code), [*points, *told.remedies(reason)], _KINDS[first["status"]])


def _alternatives(singularity: Report) -> list[Notice]:
    """Configurations that were tried on the node and work."""
    works = [item["change"] for item in singularity["alternatives"] if item["check"]["status"] == "ok"]
    shown = [", ".join(key if value is None else f"{key}={value}" for key, value in change.items()) for change in works]
    return [Notice(Cell(None, "It works with"), [Point("Tried here", text, True) for text in shown], "yes")] if shown else []


def _seen(found: NodeReport, now: datetime) -> Grid:
    rows = [
        [
            cells.entry(place.entry, place.factory),
            cells.text(place.factory),
            cells.name(place.site, "site"),
            cells.count(place.reports),
            cells.when(place.newest, now),
            cells.when(place.first_seen, now),
        ]
        for place in found.seen
    ]
    columns = [
        Column("entry", "Entry"),
        Column("factory", "Factory"),
        Column("site", "Site"),
        Column("reports", "Reports", numeric=True),
        Column("newest", "Last report (UTC)"),
        Column("first", "First (UTC)"),
    ]
    return Grid("seen", "Seen under", columns, rows)


def _checks(report: Report) -> Grid:
    rows = [
        [
            cells.text(check["id"]),
            Cell(check["status"], check["status"], _KINDS[check["status"]]),
            cells.code(check["reason"]),
            cells.text(check["message"]),
            cells.text(check["remedy"]),
            Cell(check["duration_s"], UNKNOWN if check["duration_s"] is None else f"{check['duration_s']:.2f} s"),
        ]
        for check in report["checks"]
    ]
    columns = [
        Column("check", "Check"),
        Column("status", "Status"),
        Column("reason", "Reason"),
        Column("message", "Message"),
        Column("remedy", "Remedy"),
        Column("duration_s", "Took", numeric=True),
    ]
    return Grid("checks", "All checks of the last report", columns, rows, True, "The report has no checks.")
