"""What pages are made from: the store, the time, the answers that are kept, the collector's own figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar

from reports.pages.kept import Kept
from site_db import views
from site_db.changes_views import ChangeList, Wanted, list_changes
from site_db.configuration.drift import Drift, Finding, check_drift
from site_db.rules import Rules, default_rules
from site_db.site_labels import Labels, entry_labels, site_labels
from site_db.site_reports import EntrySummary, SiteList, SiteSummary
from site_db.store import Store

Summary = TypeVar("Summary", SiteSummary, EntrySummary)

# The capabilities of the matrices, with titles that fit above a narrow column.
MATRIX = {
    "singularity": "Singularity",
    "privileged": "Privileged",
    "unprivileged": "Unprivileged",
    "user_namespaces": "User namespaces",
    "pid_namespace": "PID namespace",
    "sif": "SIF",
    "cvmfs_inside": "CVMFS inside",
    "gpu": "GPU",
    "gpu_container": "GPU inside",
}


class Entries(NamedTuple):
    """All entries with the verdicts of the matrix, as of a time."""

    generated_at: datetime
    entries: tuple[EntrySummary, ...]


@dataclass(frozen=True)
class Centre:
    """`figures` gives the collector's metrics as text; without a collector there are none."""

    store: Store
    now: Callable[[], datetime]
    kept: Kept
    figures: Callable[[], bytes] = lambda: b""

    def sites(self) -> SiteList:
        """All sites with the verdicts of the matrix."""

        def question() -> SiteList:
            found = views.list_sites(self.store, self.now(), matrix_rules())
            return replace(found, sites=tuple(map(_light, found.sites)))

        return self.kept.ask("sites", question)

    def entries(self) -> Entries:
        """All entries with the verdicts of the matrix."""
        now = self.now()

        def question() -> Entries:
            return Entries(now, tuple(map(_light, views.list_entries(self.store, now, matrix_rules()))))

        return self.kept.ask("entries", question)

    def site_labels(self) -> dict[str, Labels]:
        """What sites can be filtered by."""
        return self.kept.ask("site_labels", lambda: site_labels(self.store))

    def entry_labels(self) -> dict[tuple[str, str], Labels]:
        """What entries can be filtered by, by name and factory."""
        return self.kept.ask("entry_labels", lambda: entry_labels(self.store))

    def drift(self) -> Drift:
        """Where configuration and measurement disagree."""
        return self.kept.ask("drift", lambda: check_drift(self.store, self.now()))

    def findings(self, entry: str) -> Sequence[Finding]:
        """Where they disagree about one entry."""

        def question() -> dict[str, list[Finding]]:
            found: dict[str, list[Finding]] = {}
            for item in self.drift().findings:
                found.setdefault(item.entry, []).append(item)
            return found

        return self.kept.ask("findings", question).get(entry, ())

    def changes(self, wanted: Wanted) -> ChangeList:
        """What was lost and gained."""
        return self.kept.ask(("changes", wanted), lambda: list_changes(self.store, self.now(), wanted))


def _light(item: Summary) -> Summary:
    """Without what lists do not show: kept objects cost every collection of garbage, which stops all requests."""
    return replace(item, verdicts=tuple(replace(verdict, reasons=(), evidence=()) for verdict in item.verdicts))


def matrix_rules() -> Rules:
    """The rules with the matrix as their overview."""
    return replace(default_rules(), overview=tuple(MATRIX))


@lru_cache(1024)
def title_of(capability: str) -> str:
    """The title of a capability, also of a member of a family; its name where the rules have none."""
    found = default_rules().capability(capability)
    return found.title if found else capability
