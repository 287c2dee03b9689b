"""The ready pieces for factories, frontends and pools: well-formed, understood by HTCondor, with settings that exist."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from probe import settings
from tests.shared_data import shared_data

DEPLOY = Path(__file__).parents[1] / "deploy"
XML = sorted(DEPLOY.glob("*/*.xml"))
CONF = DEPLOY / "htcondor/50-singularity-probe.conf"
ATTR = re.compile(r'<attr name="(\w+)" .*?value="([^"]*)"/>')
FROM_GLIDEINWMS = {"GLIDEIN_LOG_RECIPIENTS_FACTORY"}


def read(path: Path, *, with_optional: bool) -> ElementTree.Element:
    """The pieces; with_optional: those in comments as well, as somebody has it who takes them in."""
    text = path.read_text(encoding="utf-8")
    if with_optional:
        text = re.sub(r"<!--[^<]*\n((?:\s*<[^!].*\n)+)\s*-->", r"\1", text)
    return ElementTree.fromstring(text)


@pytest.mark.parametrize("path", XML, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("with_optional", [False, True])
def test_the_pieces_are_well_formed_and_run_the_probe_after_the_entrys_attributes(path: Path, with_optional: bool):
    root = read(path, with_optional=with_optional)
    assert root.tag == {"factory": "glidein", "frontend": "frontend"}[path.parent.name]
    scripts = [file for file in root.findall("files/file") if file.get("executable") == "True"]
    assert [Path(script.attrib["absfname"]).name for script in scripts] == ["singularity-probe"]
    assert (scripts[0].get("after_entry"), scripts[0].get("prefix")) == ("True", "GLIDEIN_PS_")
    assert int(scripts[0].attrib["period"]) >= 600


@pytest.mark.parametrize("path", XML, ids=lambda path: path.parent.name)
def test_every_setting_in_the_pieces_exists_and_has_a_value_that_it_takes(path: Path):
    found = {attr.attrib["name"]: attr.attrib["value"] for attr in read(path, with_optional=True).findall("attrs/attr")}
    assert len(found) >= 2
    ours = {name: value for name, value in found.items() if name not in FROM_GLIDEINWMS}
    assert settings.unknown_names(ours) == []
    assert len(settings.read_values(str(path), ours)) == len(ours)
    assert set(found) == {name for name, _ in ATTR.findall(path.read_text(encoding="utf-8"))}


def test_the_factorys_attributes_have_the_form_of_real_ones():
    real = shared_data("factory", "10-noncms-osg.xml")
    [first, *_] = ElementTree.parse(real).getroot().iter("attr")
    for attr in read(DEPLOY / "factory/pieces.xml", with_optional=True).findall("attrs/attr"):
        assert set(attr.attrib) == set(first.attrib)


def test_htcondor_reads_its_configuration_as_meant():
    program = "import htcondor2, json, sys; print(json.dumps({n: htcondor2.param.get(n) for n in sys.argv[1:]}))"
    names = ["STARTD_CRON_JOBLIST"]
    names += [
        f"STARTD_CRON_SINGULARITY_PROBE_{word}" for word in ("EXECUTABLE", "ARGS", "MODE", "PERIOD", "KILL", "ENV")
    ]
    environment = {"CONDOR_CONFIG": str(CONF), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        [sys.executable, "-c", program, *names], env=environment, check=True, capture_output=True, text=True
    )
    values = json.loads(ended.stdout)
    assert values["STARTD_CRON_JOBLIST"].split() == ["SINGULARITY_PROBE"]
    job, arguments, mode, period, kill, variables = (str(values[name]) for name in names[1:])
    assert (Path(job).name, mode.lower(), period, kill.lower()) == ("singularity-probe", "periodic", "1h", "true")
    assert arguments.split()[0] == "startd-cron"
    given = dict(word.split("=", 1) for word in variables.strip('"').split())
    assert settings.unknown_names(given) == []
    assert len(settings.read_values("ENV", given)) == len(given)


def test_the_pages_name_the_pieces():
    docs = DEPLOY.parent / "docs"
    assert "deploy/factory/pieces.xml" in (docs / "five-minutes.md").read_text(encoding="utf-8")
    assert "deploy/frontend/pieces.xml" in (docs / "five-minutes.md").read_text(encoding="utf-8")
    assert "deploy/htcondor/50-singularity-probe.conf" in (docs / "startd-cron.md").read_text(encoding="utf-8")


# --- pages that are executed ---


def commands_of(page: str, heading: str) -> str:
    """The indented lines below a heading of a page, up to the next heading."""
    text = (DEPLOY.parent / "docs" / page).read_text(encoding="utf-8").partition(f"## {heading}\n")[2]
    section = text.partition("\n## ")[0]
    return "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which the two programs are on PATH, and nothing of this user's is touched."""
    root = DEPLOY.parent
    (tmp_path / "bin").mkdir()
    for name, call in (("singularity-probe", "-m probe"), ("site-db", "-c 'from reports.cli import main; main()'")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} {call} "$@"\n')
        program.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize(
    ("page", "heading", "expected"),
    [
        ("no-outbound-network.md", "Try it on this machine", ["1 new, 0 known already, 0 refused", "Try-Site"] * 2),
        ("startd-cron.md", "Try it on this machine", ["PROBE_SINGULARITY_USABLE", "1 new, 0 known already, 0 refused"]),
    ],
)
def test_the_commands_of_a_page_do_what_it_says(
    page: str, heading: str, expected: list[str], shell: dict[str, str], tmp_path: Path
):
    commands = commands_of(page, heading)
    assert commands
    ended = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands],
        env=shell,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    for words in expected:
        assert words in ended.stdout
