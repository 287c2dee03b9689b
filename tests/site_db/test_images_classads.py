"""Needs as ClassAd expressions: parsed and evaluated by HTCondor's own library, against ads of nodes."""

from typing import Any

import classad2
import pytest

from probe.classad import render
from site_db.images.classads import clauses, expression
from site_db.images.model import Fact, Requirements
from site_db.images.needs import Need, need_of, predict
from site_db.profiles import profile_of
from tests.sample_reports import CASES, Report, sample_report

ON_CVMFS = "/cvmfs/singularity.opensciencegrid.org/htc/rocky:9"
SORTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "aarch64": {"arch": "aarch64", "microarch": None},
    "v2": {"microarch": "x86_64-v2"},
    "v4": {"microarch": "x86_64-v4"},
    "sif": {"kind": "sif"},
    "cuda-11": {"cuda": ["cuda>=11.8"]},
    "cuda-13": {"cuda": ["cuda>=13.0 brand=tesla,driver>=570,driver<571"]},
}


def need(name: str, reference: str = ON_CVMFS) -> Need:
    values = {"arch": "x86_64", "microarch": "x86_64-v1", "kind": "sandbox", "kernel": [3, 2, 0], "cuda": []}
    values |= SORTS[name]
    return need_of(reference, Requirements({key: Fact(value, "read", "test") for key, value in values.items()}))


def machine_ad(report: Report) -> classad2.ClassAd:
    """What the probe and HTCondor publish of a node; attributes that nobody knows are left out, as both do."""
    ad = classad2.parseOne(render(report))
    arch = {"x86_64": "X86_64"}.get(report["host"]["arch"], report["host"]["arch"])
    own = {"Arch": arch, "Microarch": report["host"]["microarch"], "HasSandboxImage": report["singularity"]["usable"]}
    for name, value in own.items():
        if value is not None:
            ad[name] = value
    return ad


def evaluate(text: str, ad: classad2.ClassAd) -> object:
    return classad2.ExprTree(text).eval(ad)


REPORTS = {
    **{case: sample_report(case) for case in CASES},
    "aarch64-node": sample_report(host__arch="aarch64", host__microarch=None),
    "old-cpu": sample_report(host__microarch="x86_64-v1"),
}


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("node", REPORTS)
def test_the_expression_holds_where_the_match_says_yes(node: str, sort: str, gpu: bool):
    report, wanted = REPORTS[node], need(sort)
    said = expression(wanted, gpu=gpu, unknown_passes=False)
    profile = profile_of(report)
    answers = [predict(wanted, profile, "start").answer]
    answers += [predict(wanted, profile, "gpu").answer] if gpu else []
    assert evaluate(said, machine_ad(report)) is all(answer == "yes" for answer in answers), said


@pytest.mark.parametrize("sort", SORTS)
def test_a_machine_that_says_nothing_counts_as_was_chosen(sort: str):
    empty = classad2.ClassAd()
    assert evaluate(expression(need(sort), gpu=True, unknown_passes=False), empty) is False
    assert evaluate(expression(need(sort), gpu=True, unknown_passes=True), empty) is True


@pytest.mark.parametrize("unknown_passes", [False, True])
def test_no_clause_is_ever_undefined(unknown_passes: bool):
    ads = [classad2.ClassAd(), *(machine_ad(report) for report in REPORTS.values())]
    for clause in (clause for sort in SORTS for clause in clauses(need(sort), gpu=True, unknown_passes=unknown_passes)):
        assert {type(evaluate(clause.expression, ad)) for ad in ads} == {bool}, clause


def test_the_kernel_counts_where_a_machine_says_it():
    said = expression(need("plain"), gpu=False, unknown_passes=False)
    ad = machine_ad(sample_report())
    assert evaluate(said, ad) is True
    ad["OSG_HOST_KERNEL_VERSION"] = 20632
    assert evaluate(said, ad) is False
    ad["OSG_HOST_KERNEL_VERSION"] = 51400
    assert evaluate(said, ad) is True


def test_a_repository_is_no_part_of_another_ones_name():
    said = expression(need("plain", "/cvmfs/a.org/x"), gpu=False, unknown_passes=False)
    ad = machine_ad(sample_report())
    for names, holds in (
        ("a.org", True),
        ("b.org,a.org", True),
        ("a.org.uk", False),
        ("xa.org", False),
        ("aXorg", False),
    ):
        ad["PROBE_CVMFS_OK"] = names
        assert evaluate(said, ad) is holds, names


@pytest.mark.parametrize(
    "reference",
    ['/cvmfs/x" || true || "/a', "/cvmfs/a.org)/x", "/cvmfs/../x", "/cvmfs/a b/x", "/cvmfs/\\", "/cvmfs/.*/x"],
)
def test_a_hostile_reference_puts_nothing_into_an_expression(reference: str):
    said = expression(need("plain", reference), gpu=True, unknown_passes=False)
    assert "regexp" not in said
    assert evaluate(said, classad2.ClassAd()) is False


def test_hostile_conditions_put_nothing_into_an_expression():
    facts = {"arch": Fact("x86_64", "read", ""), "cuda": Fact(['cuda>=12"||true||"'], "declared", "")}
    said = expression(need_of(ON_CVMFS, Requirements(facts)), gpu=True, unknown_passes=False)
    assert "true||" not in said
    assert evaluate(said, classad2.ClassAd()) is False
