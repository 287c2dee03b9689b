"""The glidein's own start, begun before ``--version`` is back, for the first binary of the search order.

It is the longest way to the verdict on a healthy node. Only a success stands for the detector ``singularity``: what fails
here, among all that runs beside it, is tried again there in peace.
"""

from typing import Any, Dict, Iterator, List, Optional

from probe.detectors import runtimes, singularity
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings

# One that needs longer has the full limit in the detector ``singularity``.
LIMIT_S = 8.0


def first_candidate(rows: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    """What lies at the first place that has anything; None where that is nothing to start, or a place before it hangs."""
    for row in rows:
        if row["hung"]:
            return None
        if row["looked"]:
            return row["looked"] if row["looked"]["executable"] else None
    return None


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The outcomes of the starts that succeeded, for Trials: {"nonce": word, "outcomes": {command: [..], ..}}."""
    found, work, scratch = first_candidate(earlier["places"]), earlier["work_folder"], earlier["scratch"]
    if found is None or not work["sandbox"] or scratch["home_hung"] or scratch["folder_hung"] or scratch["bind_hung"]:
        yield {"data": unknown("", "", ""), "checks": []}
        return
    runtime = {"path": found["path"], "setuid": runtimes.setuid_facts(found, *runtimes.own_limits(host))}
    facts = host.facts()
    folder = str(facts["folder"] or work["work_folder"])
    node = singularity.Node(host, settings, {}, work, folder, scratch, facts["uid"] == 0, None)
    starts = singularity.optimistic_starts(node, runtime)
    yield {"data": node.trials(runtime, "first").early(starts, LIMIT_S), "checks": []}


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """What ``singularity`` gets where nothing was started early."""
    return {"nonce": None, "outcomes": {}}
