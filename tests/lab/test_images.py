import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lab.images import DEFAULT_LAB, LabError, busybox_sandbox, busybox_sif, ensure_user, lab_folder

GET_APPTAINER = Path(__file__).parents[2] / "scripts" / "get-apptainer"

# Gives the mount namespace a /dev/fuse that everybody may open; the machine's own stays as it is.
OPEN_DEV_FUSE = """
mount -t tmpfs none "$0" && mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse && exec "$@"
"""


def output(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.fixture(scope="module")
def apptainer() -> Path:
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    return Path(output(GET_APPTAINER).strip())


def test_the_lab_folder_is_readable_for_all_and_movable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROBE_LAB_DIR", str(tmp_path / "a" / "lab"))
    assert lab_folder() == tmp_path / "a" / "lab"
    assert lab_folder().stat().st_mode & 0o777 == 0o755


@pytest.mark.lab
def test_the_sandbox_runs_without_any_library(tmp_path: Path):
    image = busybox_sandbox(tmp_path)
    assert output(image / "bin/cat", image / "etc/os-release").startswith('NAME="Probe lab"')
    assert "etc/passwd" in output(image / "bin/ls", "-d", image / "etc/passwd")


@pytest.mark.lab
def test_the_sandbox_is_readable_for_others_whatever_the_umask(tmp_path: Path):
    before = os.umask(0o077)
    try:
        image = busybox_sandbox(tmp_path)
    finally:
        os.umask(before)
    closed = [path for path in (image, *image.rglob("*")) if not path.lstat().st_mode & 0o004]
    assert closed == []


@pytest.mark.lab
def test_the_sandbox_is_made_once(tmp_path: Path):
    first = busybox_sandbox(tmp_path).stat()
    assert busybox_sandbox(tmp_path).stat().st_ino == first.st_ino


@pytest.mark.lab
def test_a_failure_leaves_nothing_that_looks_like_an_image(tmp_path: Path):
    with pytest.raises(LabError, match="failed with exit code 1"):
        busybox_sif(tmp_path, Path("/bin/false"))
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["busybox"]


def test_a_missing_tool_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="busybox is missing; install the package busybox-static"):
        busybox_sandbox(tmp_path)


def test_a_dynamic_busybox_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "busybox").symlink_to("/bin/ls")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="is not static"):
        busybox_sandbox(tmp_path / "lab")


@pytest.mark.lab
def test_an_ordinary_user_runs_the_sandbox(apptainer: Path):
    user = ensure_user()
    run = ("runuser", "-u", user.pw_name, "--", apptainer, "exec", busybox_sandbox(lab_folder()))
    uid_map = output(*run, "cat", "/proc/self/uid_map")
    assert uid_map.split() == [str(user.pw_uid), str(user.pw_uid), "1"]


@pytest.mark.lab
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_ordinary_user_runs_the_sif_where_dev_fuse_is_open(apptainer: Path, compression: str, tmp_path: Path):
    sif = busybox_sif(lab_folder(), apptainer, compression)
    run = ("runuser", "-u", ensure_user().pw_name, "--", apptainer, "exec", sif, "cat", "/etc/os-release")
    assert "probelab" in output("unshare", "--mount", "sh", "-c", OPEN_DEV_FUSE, tmp_path, *run)


@pytest.mark.lab
def test_get_apptainer_answers_at_once_the_second_time(apptainer: Path):
    again = subprocess.run([GET_APPTAINER], capture_output=True, text=True, timeout=5, check=True)
    assert again.stdout == f"{apptainer}\n"


def refusal(prefix: str | Path) -> str:
    command = [GET_APPTAINER, "--prefix", prefix]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    return refused.stderr


@pytest.mark.parametrize("prefix", ["/usr/local/apptainer", "/usr/../usr/x", "/"])
def test_get_apptainer_leaves_the_systems_folders_alone(prefix: str):
    assert "system's own folders" in refusal(prefix)


@pytest.mark.skipif(shutil.which("apptainer") is not None, reason="the apptainer on PATH is the answer for any prefix")
def test_get_apptainer_does_not_replace_a_folder_of_somebody_else(tmp_path: Path):
    (tmp_path / "precious").touch()
    assert "holds something else" in refusal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_the_default_lab_folder_is_where_get_apptainer_unpacks_as_root():
    assert f"{DEFAULT_LAB}/apptainer" in GET_APPTAINER.read_text()
