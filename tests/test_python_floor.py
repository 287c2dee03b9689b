"""The probe on every Python that a node may have: checked statically, and run under those that are here."""

import json
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tests.probe.samples import ROOT, SCHEMA
from tests.pythons import SUPPORTED, python


@pytest.fixture(scope="module")
def single_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "singularity-probe"
    subprocess.run([ROOT / "scripts/build-probe", "--output", path], check=True, capture_output=True, timeout=120)
    return path


def run(command: list[str | Path], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)}
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=120)


def test_nothing_in_the_probe_is_newer_than_python_3_6():
    vermin = Path(sys.executable).with_name("vermin")
    answer = run([vermin, "-t=3.6-", "--no-tips", "--violations", ROOT / "probe"], ROOT)
    assert answer.returncode == 0, answer.stdout


def test_the_tools_for_captured_hosts_run_on_python_3_6_too():
    vermin = Path(sys.executable).with_name("vermin")
    files = [ROOT / "tests/hosts" / name for name in ("playing.py", "recording.py", "replay.py", "masking.py")]
    answer = run(
        [vermin, "-t=3.6-", "--no-tips", "--violations", "--no-parse-comments", *files, ROOT / "scripts/capture-host"],
        ROOT,
    )
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("version", SUPPORTED)
def test_the_single_file_runs_under_this_python_without_a_warning(single_file: Path, tmp_path: Path, version: str):
    interpreter = python(version)
    told = run([interpreter, single_file, "--version"], tmp_path)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("singularity-probe ")
    # What will be an error in the next release is one here.
    answer = run([interpreter, "-W", "error", single_file, "run"], tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    report = json.loads(answer.stdout)
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(report)] == []
    assert report["complete"] is True
    assert report["probe"]["python"].startswith(version + ".")
    assert "probe_error" not in {row["reason"] for row in report["checks"]}
    assert list(tmp_path.iterdir()) == []


COUNTING = """
import sys
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0]
given = []
def count(event, arguments):
    if event == "compile":
        given.append(str(arguments[1]))
sys.addaudithook(count)
from probe import cli
cli.main(["--version"])
print([name for name in given if "/probe/" in name])
"""


@pytest.mark.parametrize("version", [version for version in SUPPORTED if version not in ("3.6", "3.7")])
def test_a_start_compiles_each_module_once(single_file: Path, tmp_path: Path, version: str):
    """zipimport does it twice; on 3.6 and 3.7 it is written in C, and nothing can count there."""
    answer = run([python(version), "-EsSB", "-c", COUNTING, single_file], tmp_path)
    assert answer.returncode == 0, answer.stderr
    compiled = [name.rpartition("/probe/")[2] for name in literal_eval(answer.stdout.splitlines()[-1])]
    assert len(compiled) > 3
    # Those that come before: the importer itself, and who installs it.
    twice = {name for name in compiled if compiled.count(name) > 1}
    assert twice <= {"__init__.py", "cli.py", "single_file.py"}


@pytest.mark.parametrize("version", [SUPPORTED[0]])
def test_a_host_is_captured_with_the_oldest_python(tmp_path: Path, version: str):
    command = [python(version), ROOT / "scripts/capture-host", "here", "--output", tmp_path / "hosts"]
    answer = run(command, tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "hosts/here/host.json").exists()
