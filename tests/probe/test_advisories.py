"""Security advisories: which versions fall under which."""

import pytest

from probe import advisories


@pytest.mark.parametrize(
    ("product", "version", "setuid", "expected"),
    [
        ("apptainer", "1.4.5", True, []),
        ("apptainer", "1.1.7-1.el8", True, ["CVE-2023-30549"]),
        ("apptainer", "1.1.7-1.el8", False, []),
        ("apptainer", "1.1.8", True, []),
        ("apptainer", "1.2.0", True, ["CVE-2023-38496"]),
        ("singularity", "2.6.1-dist", True, []),
        ("singularity", "2.6.0", True, ["CVE-2018-19295"]),
        ("singularity", "3.6.3", False, ["CVE-2020-15229"]),
        ("singularity-ce", "3.7.3", False, ["CVE-2021-32635"]),
        ("singularity-ce", "4.1.0", True, []),
        (None, None, False, []),
        ("apptainer", "unknown", True, []),
    ],
)
def test_a_version_falls_under_its_advisories(product: str, version: str, setuid: bool, expected: list[str]):
    assert [row["id"] for row in advisories.matching(product, version, setuid)] == expected
