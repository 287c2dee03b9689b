"""Settings: what weighs more, what is read from files, and what a wrong value is told."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import settings
from probe.settings import WrongUse, combine


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("A 1\nB two words \n", {"A": "1", "B": "two words"}),
        ("A 1\r\nB 2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA 1\n", {"A": "1"}),
        ("# A 0\n#A 0\n  \nA 1\n", {"A": "1"}),
        ("A 1\nAB 2\nA 3\n", {"A": "3", "AB": "2"}),
        ("A\nB \n", {"A": "", "B": ""}),
        ("  A   1\n", {"A": "1"}),
        ("A 1 # not a comment\n", {"A": "1 # not a comment"}),
    ],
)
def test_name_value_lines(text, values):
    assert settings.parse_name_value_lines(text) == values


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_line_ends_end_a_line(separator: str):
    """glidein_config is read by grep and awk there: a form feed in a value does not begin a new name."""
    assert settings.parse_name_value_lines(f"A 1{separator}B 2\n").keys() == {"A"}


@given(st.text())
def test_no_text_breaks_the_reading(text: str):
    values = settings.parse_name_value_lines(text)
    assert all(name and not name.startswith("#") for name in values)


def made(options=None, environment=None, text="", glidein=None):
    return combine("manual", options or {}, environment or {}, "my.conf", text, glidein or {})


@pytest.mark.parametrize(
    ("options", "environment", "text", "glidein", "deadline_s"),
    [
        ({}, {}, "", {}, 60.0),
        ({}, {}, "", {"PROBE_DEADLINE": "5"}, 5.0),
        ({}, {}, "PROBE_DEADLINE 6", {"PROBE_DEADLINE": "5"}, 6.0),
        ({}, {"PROBE_DEADLINE": "7"}, "PROBE_DEADLINE 6", {"PROBE_DEADLINE": "5"}, 7.0),
        ({"deadline": 8.0}, {"PROBE_DEADLINE": "7"}, "PROBE_DEADLINE 6", {"PROBE_DEADLINE": "5"}, 8.0),
        ({"deadline": None}, {"PROBE_DEADLINE": ""}, "PROBE_DEADLINE 6", {}, 6.0),
        ({}, {}, "PROBE_DEADLINE 6\r\nPROBE_DEADLINE 9.5\r\n", {}, 9.5),
    ],
)
def test_options_weigh_more_than_environment_file_and_glidein(options, environment, text, glidein, deadline_s):
    assert made(options, environment, text, glidein).deadline_s == deadline_s


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("PROBE_IMAGES", "/a b, docker://c ,", "images", ["/a b", "docker://c"]),
        (
            "PROBE_CVMFS_REPOS",
            "a.example, b.example c.example",
            "cvmfs_repositories",
            ["a.example", "b.example", "c.example"],
        ),
        ("PROBE_ONLY", "host,gpus", "only", ["host", "gpus"]),
        ("PROBE_SKIP", "host", "skip", ["host"]),
        ("PROBE_REQUIRE", "sif", "require", ["sif"]),
        ("PROBE_SINGULARITY", "/opt/my apps/apptainer", "singularity", "/opt/my apps/apptainer"),
        ("PROBE_CVMFS_MOUNT_DIR", "/tmp/cvmfs", "cvmfs_mount_dir", "/tmp/cvmfs"),
        ("PROBE_NETWORK_TARGETS", "a:1,b:2", "network_targets", ["a:1", "b:2"]),
        ("PROBE_COLLECTOR", "https://c", "collector", "https://c"),
        ("PROBE_TOKEN_FILE", "/t", "token_file", "/t"),
        ("PROBE_SPOOL", "/s", "spool", "/s"),
    ],
)
def test_a_setting_is_read_the_same_from_file_and_environment(name, text, field, value):
    assert getattr(made(text=f"{name} {text}\r\n"), field) == value
    assert getattr(made(environment={name: text}), field) == value


@pytest.mark.parametrize("wrong", ["soon", "0", "-1", "3601", "nan", "inf", "1e9", "6 0"])
def test_a_wrong_value_is_told_with_place_name_and_remedy(wrong: str):
    with pytest.raises(WrongUse) as in_file:
        made(text=f"# comment\nPROBE_DEADLINE {wrong}\n")
    with pytest.raises(WrongUse) as in_environment:
        made(environment={"PROBE_DEADLINE": wrong})
    for error, place in ((in_file, "my.conf"), (in_environment, "the environment")):
        said = str(error.value)
        assert "\n" not in said
        assert all(
            word in said for word in (place, "PROBE_DEADLINE", repr(wrong), "a number of seconds from 1 to 3600")
        )


def test_a_misspelt_name_is_a_warning_that_names_the_known_ones():
    found = made(text="PROBE_DEADLIME 5\nGLIDEIN_Site X\nPROBE_ONLY host\n")
    assert len(found.warnings) == 1
    assert "my.conf: PROBE_DEADLIME" in found.warnings[0]
    assert "PROBE_DEADLINE" in found.warnings[0]
    assert found.deadline_s == settings.DEADLINE_S


@pytest.mark.parametrize(
    ("options", "environment", "glidein", "site", "entry"),
    [
        ({}, {}, {}, None, None),
        ({}, {"GLIDEIN_Site": "E"}, {}, "E", None),
        ({}, {"GLIDEIN_Site": "E"}, {"GLIDEIN_Site": "G", "GLIDEIN_Entry_Name": "N"}, "G", "N"),
        ({}, {"PROBE_SITE": "P"}, {"GLIDEIN_Site": "G"}, "P", None),
        ({"site": "S", "entry": "T"}, {"PROBE_SITE": "P"}, {"GLIDEIN_Site": "G"}, "S", "T"),
    ],
)
def test_the_glideins_identity(options, environment, glidein, site, entry):
    identity = made(options, environment, "", glidein).identity
    assert (identity["site"], identity["entry"]) == (site, entry)
    assert set(identity) == set(settings.GLIDEIN_NAMES)


def test_a_glidein_config_given_as_file_is_one():
    found = made(text="GLIDEIN_Entry_Name E1\r\nSINGULARITY_BIN /opt/s\r\nCVMFS_MOUNT_DIR /tmp/c\r\nEMPTY\r\n")
    assert (found.identity["entry"], found.cvmfs_mount_dir) == ("E1", "/tmp/c")
    assert (found.configured("SINGULARITY_BIN"), found.configured("EMPTY"), found.configured("NO")) == (
        "/opt/s",
        None,
        None,
    )


def test_the_cvmfs_folder_comes_from_option_then_glidein_then_environment():
    environment, glidein = {"CVMFS_MOUNT_DIR": "/e"}, {"CVMFS_MOUNT_DIR": "/g"}
    assert made(environment=environment).cvmfs_mount_dir == "/e"
    assert made(environment=environment, glidein=glidein).cvmfs_mount_dir == "/g"
    assert made({"cvmfs_mount_dir": "/o"}, environment, glidein=glidein).cvmfs_mount_dir == "/o"


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("PROBE_PUBLISH", "gwms, ospool start", "publish", ["gwms", "ospool", "start"]),
        ("PROBE_STDOUT_REPORT", "Yes", "stdout_report", True),
        ("PROBE_REPORT_ATTRIBUTE", "1", "report_attribute", True),
        ("PROBE_REQUIRE_KNOWN", "false", "require_known", False),
        ("PROBE_FULL_EVERY", "0", "full_every_s", 0.0),
    ],
)
def test_settings_of_a_glidein(name, text, field, value):
    assert getattr(combine("startup", {}, {}, None, "", {name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("PROBE_DEADLINE", "soon"), ("PROBE_PUBLISH", "all"), ("PROBE_STDOUT_REPORT", "perhaps"), ("PROBE_FULL_EVERY", "-1")],
)
def test_in_a_glidein_a_wrong_value_is_a_warning_and_the_default_stands(name: str, wrong: str):
    found = combine("periodic", {}, {name: wrong}, "f", f"{name} {wrong}\n", {name: wrong})
    assert len(found.warnings) == 3
    assert all(name in warning and repr(wrong) in warning for warning in found.warnings)
    assert found._replace(warnings=[], glidein={}) == combine("periodic", {}, {}, None, "", {})._replace(glidein={})


def test_what_an_earlier_run_published_and_what_others_read_are_no_misspelt_settings():
    glidein = {"PROBE_STATUS": "ok", "PROBE_SIF": "True", "PROBE_PYTHON": "/p", "PROBE_CONFIG": "/c", "PROBE_TYPO": "1"}
    found = combine("startup", {}, {}, None, "", glidein)
    assert [warning.split(":")[1].split()[0] for warning in found.warnings] == ["PROBE_TYPO"]
