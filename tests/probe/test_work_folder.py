"""This run's work folder: made whole, removed whole."""

import os
import stat
import time
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


def test_it_is_made_in_the_first_folder_that_takes_it(tmp_path: Path):
    (tmp_path / "good").mkdir()
    folders = [str(tmp_path / "missing"), "/proc", str(tmp_path / "good")]
    made = work_folder.prepare_first(folders, "id", ARCH)
    assert made is not None
    assert made["work_folder"] == str(tmp_path / "good/singularity-probe-id")
    assert work_folder.prepare_first(folders[:2], "id", ARCH) is None


def test_a_folder_that_programs_start_from_goes_before_one_that_is_mounted_noexec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("noexec", "plain"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(work_folder, "_noexec", lambda folder: folder.endswith("noexec"))
    made = work_folder.prepare_first([str(tmp_path / "noexec"), str(tmp_path / "plain")], "id", ARCH)
    assert made is not None
    assert made["work_folder"] == str(tmp_path / "plain/singularity-probe-id")


def test_a_folder_that_is_there_already_is_somebody_elses(tmp_path: Path):
    (tmp_path / "work").mkdir()
    with pytest.raises(FileExistsError):
        work_folder.prepare(str(tmp_path / "work"), ARCH)
    assert (tmp_path / "work").is_dir()


OLD, NEW = "singularity-probe-" + "0" * 16, "singularity-probe-" + "1" * 16


def aged(path: Path, age_s: float) -> None:
    then = time.time() - age_s
    os.utime(path, (then, then), follow_symlinks=False)


def test_a_run_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    scratch = tmp_path / "scratch"
    (scratch / OLD / "image/bin").mkdir(parents=True)
    (scratch / OLD / "image/link").symlink_to(elsewhere)
    others = [NEW, "singularity-probe-of-mine", OLD + ".bak", "other"]
    for name in others:
        (scratch / name).mkdir()
    linked = "singularity-probe-" + "2" * 16
    (scratch / linked).symlink_to(elsewhere)
    for name in (OLD, *others[1:], linked):
        aged(scratch / name, 7200)
    work_folder.remove([str(scratch / "singularity-probe-id")], [])
    assert {path.name for path in scratch.iterdir()} == {*others, linked}
    assert (elsewhere / "file").exists()


def test_what_another_user_left_is_not_ours_to_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / OLD).mkdir()
    aged(tmp_path / OLD, 7200)
    assert work_folder.forgotten([str(tmp_path)]) == [str(tmp_path / OLD)]
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert work_folder.forgotten([str(tmp_path)]) == []


def test_a_folder_that_cannot_be_listed_holds_nothing_forgotten(tmp_path: Path):
    assert work_folder.forgotten([str(tmp_path / "no")]) == []
