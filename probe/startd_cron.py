"""``singularity-probe startd-cron``: what a node can do as ClassAd lines on stdout, for HTCondor's startd.

The startd publishes what is printed and drops what is not printed again; it ends a job by SIGTERM, and a second later by
SIGKILL. The lines leave in one piece before anything is sent anywhere else.
"""

from typing import Any, Dict

EXIT_OK = 0


def run(settings: Any) -> int:
    """Look, print the attributes, deliver the report; returns the exit code."""
    from probe.look import deliver, report_of_node
    from probe.messages import print_whole, say

    for warning in settings.warnings:
        say("warning: " + warning)
    report = report_of_node(settings)
    print_whole(ad(settings, report))
    deliver(settings, report)
    return EXIT_OK


def ad(settings: Any, report: Dict[str, Any]) -> str:
    """The attributes as lines; no line is a bare dash, which would end the ad."""
    from probe import classad

    values = classad.attributes(report)
    if settings.publish:
        from probe import peers

        values.update(peers.attributes(settings, report))
    if settings.report_attribute:
        from probe import packing

        packed = packing.attribute(report)
        values["PROBE_REPORT"] = classad.LongText(packed) if packed else None
    return classad.lines(values)
