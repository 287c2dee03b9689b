"""This run's work folder: made whole, removed whole."""

import os
import stat
from pathlib import Path

import pytest

from probe import minimal_image
from probe.detectors import work_folder

ARCH = os.uname().machine


def test_a_work_folder_is_made_and_removed_with_its_traces(tmp_path: Path):
    place = work_folder.place(str(tmp_path), "id")
    made = work_folder.prepare(place, ARCH)
    assert made["work_folder"] == place == str(tmp_path / "singularity-probe-id")
    assert stat.S_IMODE(Path(place).stat().st_mode) == 0o700
    assert Path(made["sandbox"] + minimal_image.PAYLOAD_PATH).exists()
    (tmp_path / ".apptainer").mkdir()
    work_folder.remove([place], [str(tmp_path / ".apptainer"), str(tmp_path / ".singularity")])
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_somebody_uses_meanwhile_stays(tmp_path: Path):
    (tmp_path / ".apptainer/cache").mkdir(parents=True)
    work_folder.remove([str(tmp_path / "no")], [str(tmp_path / ".apptainer")])
    assert (tmp_path / ".apptainer/cache").is_dir()


def test_without_a_payload_for_the_architecture_there_is_a_folder_and_no_image(tmp_path: Path):
    made = work_folder.prepare(str(tmp_path / "work"), "vax")
    assert (made["sandbox"], made["sif"]) == (None, None)
    assert (tmp_path / "work").is_dir()


def test_a_folder_that_was_not_filled_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(folder: str, _arch: str) -> None:
        Path(folder).mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(minimal_image, "create_sandbox", fail)
    with pytest.raises(OSError, match="No space"):
        work_folder.prepare(str(tmp_path / "work"), ARCH)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_already_is_somebody_elses(tmp_path: Path):
    (tmp_path / "work").mkdir()
    with pytest.raises(FileExistsError):
        work_folder.prepare(str(tmp_path / "work"), ARCH)
    assert (tmp_path / "work").is_dir()
