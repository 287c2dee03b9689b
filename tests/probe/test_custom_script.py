"""Which calls are a GlideinWMS custom script's, and that one of those never ends the glidein unasked."""

import subprocess
import sys
from pathlib import Path

import pytest

from probe import cli, glidein_call

ROOT = Path(__file__).parents[2]


def test_two_words_that_name_no_file_are_still_wrong_use(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["no-such-command", "main"]) == 2
    assert "no-such-command" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("glidein_config", "", True),
        ("config.copy", "# a comment\nERROR_GEN_PATH /x\n", True),
        ("config.copy", "ADD_CONFIG_LINE_SOURCE /x\r\n", True),
        ("report.json", '{"ERROR_GEN_PATH ": 1}\n', False),
        ("notes", "a word ERROR_GEN_PATH /x\n", False),
        ("binary", "\0\udcff\0", False),
    ],
)
def test_a_glidein_config_is_known_by_its_name_or_by_what_it_says(
    tmp_path: Path, name: str, content: str, expected: bool
):
    (tmp_path / name).write_text(content, errors="surrogateescape")
    assert glidein_call.is_config(str(tmp_path / name)) is expected


def test_a_glidein_config_that_is_not_there_ends_well(tmp_path: Path):
    command = [sys.executable, "-m", "probe", "glidein_config", "main"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "glidein_config: No such file or directory" in ended.stderr


def test_whoever_ignores_the_ends_of_children_does_no_harm(tmp_path: Path):
    (tmp_path / "glidein_config").touch()
    words = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", words, sys.executable, "-m", "probe", str(tmp_path / "glidein_config"), "main"]
    environment = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "runtime_not_found" in ended.stdout


def test_a_python_without_its_library_ends_no_glidein(tmp_path: Path):
    (tmp_path / "glidein_config").touch()
    words = 'import sys; sys.modules["json"] = None; from probe.cli import run_program; run_program()'
    command = [sys.executable, "-c", words, str(tmp_path / "glidein_config"), "main"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "GLIDEIN_PERIODIC_SCRIPT": "true"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, 'PROBE_STATUS = "probe_error"\n')
    assert "json" in ended.stderr


@pytest.mark.parametrize(
    ("said", "folder", "config", "expected"),
    [
        ("true", "work", "{work}/glidein_config", True),
        ("false", "work/tmp.1", "{work}/glidein_config", False),
        (None, "work", "{work}/glidein_config", False),
        (None, "work/tmp.1", "{work}/glidein_config", True),
        (None, "work", "glidein_config", False),
        (None, "work/main/deep", "{work}/glidein_config", False),
    ],
)
def test_a_periodic_run_is_known_by_the_variable_or_else_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None, folder: str, config: str, expected: bool
):
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.delenv("GLIDEIN_PERIODIC_SCRIPT", raising=False)
    if said is not None:
        monkeypatch.setenv("GLIDEIN_PERIODIC_SCRIPT", said)
    assert glidein_call.is_periodic(config.format(work=tmp_path / "work")) is expected
