"""Every node of the laboratory: the verdict is what the factory's command met, the cause is named, nothing is left."""

from pathlib import Path

import pytest

from tests.lab.condition import combined
from tests.lab.conditions import CONDITIONS
from tests.lab.images import ensure_user
from tests.lab.laboratory import Laboratory, Observation
from tests.lab.nodes import NODES

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def observed() -> dict[str, Observation]:
    """What was seen on nodes so far: several tests ask about one run."""
    return {}


@pytest.fixture(params=NODES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def seen(name: str, lab: Laboratory, observed: dict[str, Observation]) -> Observation:
    if name not in observed:
        node = NODES[name]
        observed[name] = node.observe(lab)
        if observed[name].met_a_limit and node.told(observed[name]) != node.expected():
            # Other tests may have kept this machine from answering in time; a node that hangs does so again.
            observed[name] = node.observe(lab)
    return observed[name]


def test_the_verdict_is_what_the_factorys_command_met(seen: Observation):
    assert seen.usable is seen.factory_ok, seen.summary()
    assert seen.singularity["mode"] == seen.factory_mode, seen.summary()


def test_the_report_names_the_cause(name: str, seen: Observation):
    assert NODES[name].told(seen) == NODES[name].expected(), seen.summary()
    assert seen.unexplained == [], seen.summary()


def test_the_report_comes_within_the_deadline(name: str, seen: Observation):
    assert seen.probe["outcome"] == "exited", seen.summary()
    assert seen.probe["exit_code"] == 0, seen.summary()
    assert seen.probe["duration_s"] <= NODES[name].condition.deadline_s + 1, seen.summary()


def test_nothing_of_the_probe_is_left(name: str, seen: Observation):
    assert seen.left_behind(NODES[name].condition.mounts_that_hang) == {}, seen.summary()


@pytest.mark.parametrize("conditions", [("image-hung", "tmpdir-hung", "binary-hung"), ("home-hung", "cwd-hung")])
def test_periodic_runs_leave_one_process_a_hung_mount_at_most(lab: Laboratory, conditions: tuple[str, ...]):
    seen = lab.observe(conditions, probe_runs=10)
    hung = combined(CONDITIONS[name] for name in conditions)
    assert seen.left_behind(hung.mounts_that_hang) == {}, seen.summary()
    assert seen.usable is seen.factory_ok, seen.summary()
    assert seen.probe["duration_s"] <= hung.deadline_s + 1, seen.summary()


def test_a_bind_that_hangs_leaves_one_process_however_many_runs_there_are(lab: Laboratory):
    seen = lab.observe(["bind-hung"], probe_runs=3)
    assert seen.left_behind(1) == {}, seen.summary()
    assert (seen.usable, seen.singularity["reason"]) == (False, "bind_hung"), seen.summary()


def test_the_machine_is_as_it_was(lab: Laboratory):
    before = the_machine()
    lab.observe(["root", "cvmfs", "proc_masked"])
    assert the_machine() == before


def the_machine() -> tuple[str, list[Path], bool]:
    """What a node might have changed: mounts, the user's home, the top folder."""
    home = Path(ensure_user().pw_dir)
    return Path("/proc/self/mountinfo").read_text(), sorted(home.iterdir()), Path("/cvmfs").exists()


def test_every_condition_has_a_node():
    used = {name for node in NODES.values() for name in node.conditions}
    assert used == set(CONDITIONS)


def test_conditions_add_up():
    both = combined([CONDITIONS["proc_masked"], CONDITIONS["fuse-denied"]])
    assert "/proc/keys" in both.prepare
    assert "/dev/fuse" in both.prepare
    assert both.touches == {"proc", "fuse"}


def test_the_healthy_node_is_no_condition_at_all():
    assert NODES["healthy-unprivileged"].conditions == ()


@pytest.mark.parametrize(
    ("one", "two", "go_together"),
    [
        ("proc_masked", "fuse-denied", True),
        ("fuse-missing", "fuse-denied", False),
        ("path-empty", "nofile-64", False),  # prlimit would not be found
        ("path-empty", "fuse-denied", True),
        ("seccomp-userns", "userns-disabled", False),  # the filter would forbid the namespace that the limit is set in
    ],
)
def test_conditions_that_cannot_be_made_together_are_known(one: str, two: str, go_together: bool):
    assert CONDITIONS[one].goes_with(CONDITIONS[two]) is go_together
    assert CONDITIONS[two].goes_with(CONDITIONS[one]) is go_together
