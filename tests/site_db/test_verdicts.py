"""Verdicts and kinds of nodes, from node counts and rules."""

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_db.kinds import kinds_of
from site_db.rules import default_rules
from site_db.verdicts import Verdict, judge, judge_all, wilson
from tests.sample_reports import check, repository, sample_report
from tests.site_db.groups import group, groups

RULES = default_rules()
FIXED_WORDS = [
    *("singularity", "privileged", "unprivileged", "fakeroot", "sandbox", "sif", "sif_zstd", "registry"),
    *("pid_namespace", "ipc_namespace", "contain", "bind_new_path", "cvmfs_inside", "workdir", "nv", "rocm"),
    *("user_namespaces", "gpu", "gpu_container"),
]


def _judge(name: str, cases: Mapping[str, int]) -> Verdict:
    capability = RULES.capability(name)
    assert capability is not None
    return judge(capability, groups(cases), RULES)


@pytest.mark.parametrize(
    ("capability", "cases", "answer", "counts", "reasons"),
    [
        ("singularity", {"healthy": 3}, "yes", (3, 0, 0), []),
        ("singularity", {"no_runtime": 2}, "no", (0, 2, 0), [("runtime_not_found", 2)]),
        ("singularity", {"healthy": 2, "pid_masked": 1}, "mixed", (2, 1, 0), [("proc_masked", 1)]),
        ("singularity", {"deadline": 4}, "unknown", (0, 0, 4), [("deadline_reached", 4)]),
        ("singularity", {"deadline": 4, "healthy": 1}, "yes", (1, 0, 4), [("deadline_reached", 4)]),
        ("singularity", {"deadline": 4, "no_userns": 1}, "no", (0, 1, 4), [("userns_limit_reached", 1)]),
        ("singularity", {}, "unknown", (0, 0, 0), []),
        ("privileged", {"privileged": 1, "healthy": 1}, "mixed", (1, 1, 0), [("setuid_not_installed", 1)]),
        ("pid_namespace", {"pid_masked": 5}, "no", (0, 5, 0), [("proc_masked", 5)]),
        ("user_namespaces", {"no_userns": 1}, "no", (0, 1, 0), [("userns_limit_reached", 1)]),
        ("gpu", {"gpu": 1}, "yes", (1, 0, 0), []),
        ("gpu", {"healthy": 1}, "unknown", (0, 0, 1), [("gpu_none", 1)]),
        ("cvmfs:oasis.opensciencegrid.org", {"cvmfs_hung": 1}, "no", (0, 1, 0), [("cvmfs_hung", 1)]),
        ("cvmfs:oasis.opensciencegrid.org", {"healthy": 1}, "yes", (1, 0, 0), []),
        ("cvmfs:never.heard.of", {"healthy": 2}, "unknown", (0, 0, 2), [(None, 2)]),
    ],
)
def test_the_answer_follows_from_the_nodes(
    capability: str,
    cases: Mapping[str, int],
    answer: str,
    counts: tuple[int, int, int],
    reasons: list[tuple[str | None, int]],
) -> None:
    verdict = _judge(capability, cases)
    assert (verdict.answer, (verdict.nodes_yes, verdict.nodes_no, verdict.nodes_unknown)) == (answer, counts)
    assert [(reason.code, reason.nodes) for reason in verdict.reasons] == reasons
    assert verdict.sentence.startswith(verdict.title)


@pytest.mark.parametrize("status", ["fail", "timeout", "unknown", "skipped", "ok"])
@pytest.mark.parametrize(("name", "timeout_is"), [("unprivileged", "no"), ("cvmfs:r", "no"), ("sif", "unknown")])
def test_a_timeout_of_singularity_or_cvmfs_is_a_no(name: str, status: str, timeout_is: str) -> None:
    reason = None if status == "ok" else "runtime_timeout"
    report = sample_report(cvmfs__repositories=[repository("r", status, reason)])
    report["singularity"]["modes"]["unprivileged"] = check("m", status, reason)
    report["singularity"]["features"]["sif"] = check("f", status, reason)
    capability = RULES.capability(name)
    assert capability is not None
    expected = {"ok": "yes", "fail": "no", "timeout": timeout_is}.get(status, "unknown")
    assert judge(capability, [group(report)], RULES).answer == expected


def test_singularity_that_did_not_answer_in_time_is_a_no() -> None:
    report = sample_report(singularity__usable=None, singularity__reason="runtime_timeout")
    assert judge_all([group(report)], RULES)[0].answer == "no"


@pytest.mark.parametrize(
    ("cases", "confidence"),
    [
        ({}, "low"),
        ({"healthy": 1}, "low"),
        ({"healthy": 4}, "low"),
        ({"healthy": 5}, "medium"),
        ({"healthy": 19}, "medium"),
        ({"healthy": 20}, "high"),
        ({"healthy": 20, "deadline": 5}, "high"),
        ({"healthy": 20, "deadline": 6}, "medium"),
        ({"healthy": 20, "deadline": 21}, "low"),
        ({"healthy": 10, "no_runtime": 10}, "medium"),
        ({"healthy": 100, "no_runtime": 100}, "high"),
    ],
)
def test_confidence_grows_with_the_nodes_that_could_tell(cases: Mapping[str, int], confidence: str) -> None:
    assert _judge("singularity", cases).confidence == confidence


@given(trials=st.integers(1, 10**6), data=st.data())
def test_the_interval_holds_the_share(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    lower, upper = wilson(successes, trials)
    assert 0 <= lower <= successes / trials + 1e-9
    assert successes / trials - 1e-9 <= upper <= 1
    assert upper > lower


def test_the_interval_is_wilsons() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # a textbook's example


@given(st.dictionaries(st.sampled_from(["healthy", "no_runtime", "deadline"]), st.integers(1, 50)), st.data())
def test_the_order_of_groups_makes_no_difference(cases: dict[str, int], data: st.DataObject) -> None:
    found = groups(cases)
    mixed = data.draw(st.permutations(found))
    first, second = (
        [dataclasses.replace(verdict, evidence=()) for verdict in judge_all(items, RULES)] for items in (found, mixed)
    )
    assert first == second


def test_evidence_names_an_example_of_every_answer_no_first() -> None:
    verdict = _judge("singularity", {"healthy": 9, "pid_masked": 1, "no_runtime": 2, "deadline": 1})
    assert [(item.answer, item.reason, item.nodes) for item in verdict.evidence] == [
        ("no", "runtime_not_found", 2),
        ("no", "proc_masked", 1),
        ("unknown", "deadline_reached", 1),
        ("yes", None, 9),
    ]
    assert verdict.evidence[0].found == ("singularity", "usable")


def test_all_fixed_capability_names_are_judged_and_each_repository() -> None:
    names = [verdict.capability for verdict in judge_all(groups(["healthy"]), RULES)]
    assert names == [*FIXED_WORDS, "cvmfs:oasis.opensciencegrid.org", "cvmfs:singularity.opensciencegrid.org"]
    assert [verdict.capability for verdict in judge_all([], RULES)] == FIXED_WORDS


@pytest.mark.parametrize("name", ["cvmfs:", "cvmfs:*x", "cvmfs", "nonsense", "", "cvmfs:*"])
def test_a_name_is_a_capability_only_if_the_rules_have_it(name: str) -> None:
    assert (RULES.capability(name) is not None) == (name == "cvmfs:*x")


def test_kinds_say_what_tells_them_apart() -> None:
    old = sample_report(
        "no_userns",
        host__os={"id": "centos", "version_id": "7", "name": "CentOS 7"},
        host__kernel={"release": "3.10.0", "version": [3, 10, 0]},
    )
    found = kinds_of([group(sample_report(), 3), group(old, 1)], RULES)
    assert [(kind.nodes, kind.share) for kind in found.kinds] == [(3, 0.75), (1, 0.25)]
    assert found.traits_that_differ == ("os", "kernel", "mode", "reason")
    assert [kind.traits["os"] for kind in found.kinds] == ["almalinux 9.4", "centos 7"]
    assert [kind.traits["kernel"] for kind in found.kinds] == ["5.14", "3.10"]
    assert [kind.traits["reason"] for kind in found.kinds] == [None, "userns_limit_reached"]
    assert "singularity" in found.capabilities_that_differ
    assert [kind.answers["singularity"] for kind in found.kinds] == ["yes", "no"]


def test_one_kind_differs_in_nothing() -> None:
    found = kinds_of(groups(["healthy"]), RULES)
    assert (found.traits_that_differ, found.capabilities_that_differ) == ((), ())
    assert kinds_of([], RULES).kinds == ()
