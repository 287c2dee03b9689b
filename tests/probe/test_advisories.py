"""Security advisories: which versions fall under which."""

import pytest

from probe import advisories

PATHS = {"limit container paths": "/cvmfs"}


@pytest.mark.parametrize(
    ("product", "version", "setuid", "expected"),
    [
        ("apptainer", "1.5.1", True, []),
        ("apptainer", "1.4.5", False, []),
        ("apptainer", "1.4.5", True, ["GHSA-cr2j-534f-mf3g"]),
        ("apptainer", "1.1.7-1.el8", True, ["CVE-2023-30549", "CVE-2025-65105", "GHSA-cr2j-534f-mf3g"]),
        ("apptainer", "1.1.7-1.el8", False, ["CVE-2025-65105"]),
        ("apptainer", "1.1.8", True, ["CVE-2025-65105", "GHSA-cr2j-534f-mf3g"]),
        ("apptainer", "1.2.0", True, ["CVE-2023-38496", "CVE-2025-65105", "GHSA-cr2j-534f-mf3g"]),
        ("singularity", "2.6.1-dist", True, []),
        ("singularity", "2.6.0", True, ["CVE-2018-19295"]),
        ("singularity", "3.6.3", False, ["CVE-2020-15229", "CVE-2021-33622"]),
        ("singularity", "3.7.3", False, ["CVE-2021-32635"]),
        ("singularity", "3.8.7-1.el7", True, ["CVE-2026-47215"]),
        ("singularity-ce", "3.10.4", False, ["CVE-2022-23538"]),
        ("singularity-ce", "4.1.0", True, ["CVE-2026-47215"]),
        ("singularity-ce", "4.4.2", True, []),
        ("singularity-pro", "4.1.14-1.el9", True, []),
        ("singularity-pro", "4.3.8-1.el9", True, ["CVE-2026-47215"]),
        (None, None, False, []),
        ("apptainer", "unknown", True, []),
    ],
)
def test_a_version_falls_under_its_advisories(product: str, version: str, setuid: bool, expected: list[str]):
    assert [row["id"] for row in advisories.matching(product, version, setuid, PATHS)] == expected


def test_every_advisory_says_where_it_was_learnt():
    for row in advisories.rows():
        assert set(row) - {"setting"} == {"id", "products", "from", "fixed", "setuid_only", "title", "source"}
        assert row["source"], row["id"]
        assert advisories.version_numbers(row["from"]) < advisories.version_numbers(row["fixed"])


@pytest.mark.parametrize("configuration", [{}, {"limit container paths": "NULL"}, {"limit container owners": "root"}])
def test_an_advisory_about_a_setting_needs_that_setting(configuration: dict[str, str]):
    assert advisories.matching("apptainer", "1.4.5", True, configuration) == []
