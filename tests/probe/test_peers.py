"""The names that others match on: only what is known, and with the types that they have elsewhere."""

from typing import Any

import pytest

from probe import peers
from probe.classad import Expression, expression
from probe.settings import combine
from tests.sample_reports import sample_report


def published(report: dict[str, Any], groups: str, **glidein: str) -> dict[str, Any]:
    return peers.attributes(combine("startup", {"publish": groups.split(",")}, {}, None, "", glidein), report)


def test_a_node_that_works_has_all_of_glideinwms_names():
    report = sample_report("healthy")
    found = published(report, "gwms", GLIDEIN_Singularity_Use="PREFERRED")
    singularity = report["singularity"]
    assert found["HAS_SINGULARITY"] is True
    for prefix in ("SINGULARITY_", "GWMS_SINGULARITY_", "CONTAINERSW_", "GWMS_CONTAINERSW_"):
        assert found[prefix + "MODE"] == singularity["mode"]
        assert found[prefix + "VERSION"] == singularity["version"]
        assert found[prefix + "PATH"] == singularity["path"]
    assert found["GLIDEIN_PROVIDES"] == "singularity/" + singularity["mode"]
    assert found["GWMS_SINGULARITY_STATUS"] == "PREFERRED"


def test_what_is_not_known_is_not_published():
    report = sample_report("healthy", singularity__usable=None, singularity__mode=None)
    found = published(report, "gwms")
    assert "HAS_SINGULARITY" not in found
    assert "GLIDEIN_PROVIDES" not in found
    assert None not in found.values()


@pytest.mark.parametrize(
    ("there", "case", "expected"),
    [
        ("foo/bar,singularity/unprivileged", "no_runtime", "foo/bar"),
        ("foo/bar", "no_runtime", "foo/bar"),
        ("singularity/unprivileged", "no_runtime", None),
        ("", "no_runtime", None),
        ("foo/bar,singularity/fakeroot", "healthy", "foo/bar,singularity/MODE"),
    ],
)
def test_what_other_scripts_provide_stays_whatever_becomes_of_ours(there: str, case: str, expected: str | None):
    report = sample_report(case)
    found = published(report, "gwms", GLIDEIN_PROVIDES=there).get("GLIDEIN_PROVIDES")
    assert found == (expected and expected.replace("MODE", str(report["singularity"]["mode"])))


def test_a_node_without_a_runtime_says_no_and_nothing_of_a_version():
    found = published(sample_report("no_runtime"), "gwms")
    assert found["HAS_SINGULARITY"] is False
    assert not any(name.endswith(("_VERSION", "_PATH", "_MODE")) for name in found)


@pytest.mark.parametrize(
    ("use", "require", "expected"),
    [
        ("", "", None),
        ("NEVER", "", "NEVER"),
        ("OPTIONAL", "PREFERRED", "PREFERRED"),
        ("REQUIRED", "", "REQUIRED"),
        ("REQUIRED", "NEVER", None),
        ("DISABLE_GWMS", "REQUIRED_GWMS", None),
        ("nonsense", "OPTIONAL", None),
    ],
)
def test_the_status_is_what_frontend_and_factory_want_together(use: str, require: str, expected: str | None):
    found = published(
        sample_report("healthy"), "gwms", GLIDEIN_Singularity_Use=use, GLIDEIN_SINGULARITY_REQUIRE=require
    )
    assert found.get("GWMS_SINGULARITY_STATUS") == expected


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("ok", None, "enabled"),
        ("fail", "userns_disabled", "disabled"),
        ("fail", "userns_unsupported", "unavailable"),
        ("unknown", "probe_error", None),
    ],
)
def test_user_namespaces_in_the_words_of_glideinwms(status: str, reason: str | None, expected: str | None):
    report = sample_report("healthy")
    report["namespaces"]["user"].update(status=status, reason=reason)
    assert published(report, "gwms").get("HAS_UNPRIVILEGED_USER_NAMESPACES") == expected


def test_repositories_have_names_that_classads_take():
    report = sample_report("healthy")
    row = dict(
        report["cvmfs"]["repositories"][0] if report["cvmfs"]["repositories"] else {},
        name="a-b.example.org", status="ok", reason=None, revision=7, nioerr=0, last_ioerr_age_s=None,
    )  # fmt: skip
    hung = dict(row, name="c.example", status="timeout", reason="cvmfs_hung", revision=None, nioerr=None)
    unknown = dict(row, name="d.example", status="unknown", reason="probe_error", revision=None, nioerr=None)
    report["cvmfs"]["repositories"] = [row, hung, unknown]
    found = published(report, "ospool")
    assert found["HAS_CVMFS_a_b_example_org"] is True
    assert (found["CVMFS_a_b_example_org_REVISION"], found["CVMFS_a_b_example_org_NIOERR"]) == (7, 0)
    assert found["HAS_CVMFS_c_example"] is False
    assert not any("d_example" in name for name in found)


def test_kernels_are_numbers_as_the_ospool_writes_them():
    report = sample_report("healthy")
    report["host"]["kernel"] = {"release": "3.10.0-1160.el7", "version": [3, 10, 0]}
    assert published(report, "ospool")["OSG_HOST_KERNEL_VERSION"] == 31000
    report["host"]["kernel"] = {"release": "6", "version": [6]}
    assert "OSG_HOST_KERNEL_VERSION" not in published(report, "ospool")


def test_the_start_clause_is_an_expression():
    clause = published(sample_report("healthy"), "start")["PROBE_START"]
    assert isinstance(clause, Expression)
    assert expression(clause) == str(clause)
