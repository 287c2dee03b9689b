"""The early start: for which binary, and which of its outcomes stand."""

import pytest

from probe.command_line import CLEARED, Launch
from probe.container_trials import Start, Trials
from probe.detectors.first_start import first_candidate
from probe.host import Run
from probe.process import Outcome


def row(path: str | None, *, hung: bool = False, executable: bool = True) -> dict[str, object]:
    looked = None if path is None else {"path": path, "executable": executable}
    return {"looked": looked, "hung": hung}


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        ([], None),
        ([row(None), row("/b/apptainer"), row("/c/singularity")], "/b/apptainer"),
        # A glidein's search waits there for ever: nothing after it is started.
        ([row(None, hung=True), row("/b/apptainer")], None),
        ([row("/b/apptainer", executable=False), row("/c/singularity")], None),
    ],
)
def test_the_first_binary_of_the_search_order_is_started(rows: list[dict[str, object]], path: str | None):
    found = first_candidate(rows)
    assert (found and found["path"]) == path


class HostOf:
    """A host whose starts have the given outcomes."""

    def __init__(self, outcomes: dict[str, Outcome]) -> None:
        self.outcomes = outcomes

    def nonce(self) -> str:
        return "word"

    def read_or_none(self, _path: str) -> str:
        return "0 0 4294967295"

    def limit(self, wanted_s: float, _share: float) -> float:
        return wanted_s

    def run_each(self, runs: dict[str, Run], _limit_s: float, _at_once: int) -> dict[str, Outcome]:
        assert all(run.changes == CLEARED for run in runs.values())
        return {name: self.outcomes[name.split(".")[-1]] for name in runs}


def test_a_success_and_what_cannot_be_killed_stand_and_a_failure_is_tried_again():
    outcomes = {
        "good": Outcome("exited", 0, None, None, "word uid_map 0 1 1\nword end", "", 0.1),
        "bad": Outcome("exited", 1, None, None, "", "no", 0.1),
        "stuck": Outcome("timeout", None, None, None, "", "", 8.0, True),
    }
    starts = {name: Start(Launch("/bin/" + name, [], []), "/image") for name in outcomes}
    ran = Trials(HostOf(outcomes), None, dict, "first").early(starts, 8.0)
    assert {command.split()[0] for command in ran["outcomes"]} == {"/bin/good", "/bin/stuck"}

    calmer = {"bad": outcomes["good"]}  # asked for another one it would raise KeyError
    verdicts = Trials(HostOf(calmer), None, dict, "0", ran).run(starts)
    assert {name: verdict.status for name, verdict in verdicts.items()} == {
        "good": "ok",
        "bad": "ok",
        "stuck": "timeout",
    }
