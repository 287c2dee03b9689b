"""Node groups made from sample reports, for tests of what is derived from them."""

from collections.abc import Mapping, Sequence

from site_db.profiles import fingerprint, profile_of
from site_db.verdicts import NodeGroup
from tests.sample_reports import Report, sample_report
from tests.site_db.submissions import NOW


def group(report: Report, nodes: int = 1) -> NodeGroup:
    profile = profile_of(report)
    return NodeGroup(fingerprint(profile), profile, nodes, NOW, NOW, report["report_id"])


def groups(cases: Mapping[str, int] | Sequence[str]) -> list[NodeGroup]:
    """One group a case; a mapping says how many nodes."""
    counts = cases if isinstance(cases, Mapping) else dict.fromkeys(cases, 1)
    return [group(sample_report(case), nodes) for case, nodes in counts.items()]
