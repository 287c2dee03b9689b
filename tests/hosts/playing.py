"""Running all detectors in this process, on a host that is recorded or played back.

Written for Python 3.6: scripts/capture-host runs it on the nodes that are captured.
"""

import json

from probe.engine import Run
from probe.registry import DETECTORS
from probe.report import compose

# Left out of a comparison: they differ from run to run, or by the Python that plays.
VOLATILE = ("duration_s", "report_id", "created_at", "python")


def detect_all(host: "object", settings: "object") -> "dict":
    """The findings of a host by detector, the last that each gives; no child and no limit but those of the host."""
    findings = {}
    for detector in DETECTORS:  # the registry lists needs first
        earlier = {name: findings[name]["data"] for name in detector.needs}
        yielded = list(detector.detect(host, settings, earlier))
        # As the engine gets them: through JSON.
        findings[detector.name] = dict(json.loads(json.dumps(yielded[-1])), state="done")
    return findings


def report_of(findings: "dict", settings: "object") -> "dict":
    """The report of findings."""
    return compose(settings, DETECTORS, Run(findings, True, False, []), 0.0, 0.0)


def without_volatile(value: "object") -> "object":
    """A report without what differs from run to run."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in VOLATILE}
        if set(value) == {"version", "python", "trigger"}:
            del kept["version"]
        return {key: without_volatile(item) for key, item in kept.items()}
    return [without_volatile(item) for item in value] if isinstance(value, list) else value
