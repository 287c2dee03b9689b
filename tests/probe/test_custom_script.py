"""Called as a GlideinWMS custom script before it is one: it must not end the glidein."""

from pathlib import Path

import pytest

from probe import cli


def test_a_call_as_custom_script_says_so_and_ends_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "glidein_config"
    config.write_text("ADD_CONFIG_LINE_SOURCE /x\n")
    assert cli.main([str(config), "main"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "custom script" in said.err


def test_two_words_that_name_no_file_are_still_wrong_use(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["no-such-command", "main"]) == 2
    assert "no-such-command" in capsys.readouterr().err
