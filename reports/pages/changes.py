"""What entries lost and gained."""

from datetime import timedelta

from reports.pages import told
from reports.pages.asked import Asked
from reports.pages.centre import MATRIX, Centre
from reports.pages.model import Choice, Form, Page
from site_db.changes_views import Wanted

_STATES = ("suspected", "confirmed", "closed", "settled")
_PERIODS = {"1": "a day", "7": "a week", "30": "30 days", "365": "a year"}


def changes(centre: Centre, asked: Asked) -> Page:
    """The changes, the latest first; at most a thousand."""
    now = centre.now()
    days = asked.one_of("days", _PERIODS)
    since = (now - timedelta(days=int(days))).replace(second=0, microsecond=0) if days else None
    wanted = Wanted(since, asked.text("entry") or None, asked.text("site") or None, asked.text("capability") or None)
    found = centre.changes(wanted)
    state, direction = asked.one_of("state", _STATES), asked.one_of("direction", ("lost", "gained"))
    shown = [
        change for change in found.changes if state in ("", change.state) and direction in ("", change.direction)
    ]
    form = Form(
        [
            Choice("days", "Seen within", [("", "any time"), *_PERIODS.items()]),
            Choice("direction", "What", [("", "any"), ("lost", "lost"), ("gained", "gained")]),
            Choice("state", "State", [("", "any"), *((name, name) for name in _STATES)]),
            Choice("capability", "Capability", [("", "any"), *MATRIX.items()]),
            Choice("site", "Site", hint="its whole name"),
            Choice("entry", "Entry", hint="its whole name"),
        ],
        "Filter",
    )
    lead = ["What entries lost and gained, when, and from which node on. To follow: the Atom feed at changes.atom."]
    return Page("Changes", "changes", found.generated_at, [form, told.changes(shown, found.generated_at, True)], lead)
