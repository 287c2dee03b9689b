"""A report told to people: what works, what does not, why, what jobs lose, and what to do."""

import textwrap
from typing import Any, Dict, List

from probe import reasons
from probe.messages import printable

WORDS = {"ok": "works", "fail": "does not work", "unknown": "not known", "timeout": "no answer", "skipped": "not tried"}
MARKS = {"ok": "+", "fail": "-", "unknown": "?", "timeout": "-", "skipped": " "}
# A missing thing is no fault: a node without a GPU is a good node.
ABSENT = {"gpu_none", "cvmfs_not_mounted", "setuid_not_installed", "not_requested", "not_applicable"}


def render_text(report: Dict[str, Any]) -> str:
    """The short form: verdict, one line a check, grouped."""
    lines = [_headline(report), ""]
    for row in report["checks"]:
        if row["status"] == "skipped":
            continue
        reason = " ({})".format(printable(row["reason"])) if row["reason"] else ""
        message = ": " + printable(row["message"])[:160] if row["message"] else ""
        lines.append("{} {}{}{}".format(_mark(row), printable(row["id"]), reason, message))
    return "".join(printable(line) + "\n" for line in lines)


def render_explanation(report: Dict[str, Any]) -> str:
    """The long form: for each thing that does not work why, what jobs lose, and remedies."""
    good = [row for row in report["checks"] if row["status"] == "ok"]
    bad = [
        row
        for row in report["checks"]
        if row["status"] in ("fail", "timeout", "unknown") and row["reason"] not in ABSENT
    ]
    absent = [row for row in report["checks"] if row["reason"] in ABSENT and row["status"] != "skipped"]
    works = "Works: " + ", ".join(printable(row["id"]) for row in good) if good else "Nothing works."
    lines = [_headline(report), "", *_wrapped(works)]
    if absent:
        lines += _wrapped(
            "Not there: " + ", ".join("{} ({})".format(printable(row["id"]), row["reason"]) for row in absent)
        )
    for group in _by_reason(bad):
        lines += ["", *_explain(group)]
    for alternative in report["singularity"]["alternatives"]:
        if alternative["check"]["status"] == "ok":
            change = ", ".join(
                printable("{} unset".format(name) if value is None else "{}={}".format(name, value))
                for name, value in alternative["change"].items()
            )
            lines += ["", *_wrapped("It works with: {} (tried here)".format(change))]
    return "".join(printable(line) + "\n" for line in lines)


def _headline(report: Dict[str, Any]) -> str:
    singularity = report["singularity"]
    where = printable(report["host"]["hostname"] or "this node")
    product = "{} {}".format(
        printable(singularity["product"] or "Singularity"), printable(singularity["version"] or "")
    ).strip()
    if singularity["usable"]:
        return "{}: containers work, {} with {} ({})".format(
            where, singularity["mode"], product, printable(singularity["path"])
        )
    verdict = "containers do not work" if singularity["usable"] is False else "it is not known whether containers work"
    return "{}: {}: {} ({})".format(
        where, verdict, reasons.title(singularity["reason"]), printable(singularity["reason"])
    )


def _mark(row: Dict[str, Any]) -> str:
    return " " if row["reason"] in ABSENT else MARKS[row["status"]]


def _by_reason(rows: List[Dict[str, Any]]) -> List[List[Dict[str, Any]]]:
    groups: Dict[str, List[Dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["reason"], []).append(row)
    return list(groups.values())


def _explain(group: List[Dict[str, Any]]) -> List[str]:
    first = group[0]
    knowledge = reasons.rows().get(first["reason"], {})
    lines = ["{} {} ({})".format(_mark(first), reasons.title(first["reason"]), printable(first["reason"]))]
    lines += _wrapped("Where: " + ", ".join(printable(row["id"]) for row in group), "    ")
    if first["message"]:
        lines += _wrapped("Evidence: " + printable(first["message"]), "    ")
    if first["evidence"].get("command"):
        lines += _wrapped("Command: " + printable(first["evidence"]["command"]), "    ")
    for title, field in (("Jobs", "jobs"), ("Site", "site_remedy"), ("Factory", "factory_remedy")):
        if knowledge.get(field):
            lines += _wrapped("{}: {}".format(title, knowledge[field]), "    ")
    return lines


def _wrapped(text: str, indent: str = "") -> List[str]:
    return textwrap.wrap(text, 110, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False) or [
        ""
    ]
