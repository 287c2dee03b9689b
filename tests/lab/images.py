"""Images and the ordinary user of the lab, made once each from what the machine's own packages give.

Whatever is made here stands under a lab folder that every user can read, because the commands under test run as an
ordinary user. Each function returns at once when its part stands already; a part that is being made has another name
until it is whole, so an interrupted run leaves nothing that looks finished.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEFAULT_LAB = "/var/tmp/singularity-probe-lab"

APPLETS = ("sh", "cat", "true", "false", "ls", "env", "uname", "id", "sleep", "printf", "test", "mount")
# /srv and /cvmfs are what glideins mount: images made for them have the folders, for sites with no overlay or underlay.
MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "home", "root", "var/tmp", "srv", "cvmfs")
EMPTY_FILES = ("etc/passwd", "etc/group", "etc/resolv.conf", "etc/hosts", "etc/localtime")  # Apptainer binds onto them
OS_RELEASE = 'NAME="Probe lab"\nID=probelab\nVERSION_ID="1"\nPRETTY_NAME="Probe lab 1"\n'


class LabError(RuntimeError):
    """A part of the lab cannot be made here; the message says what to do."""


def lab_folder() -> Path:
    """The lab's folder, made if need be: $PROBE_LAB_DIR, or /var/tmp/singularity-probe-lab. Mode 0755."""
    lab = Path(os.environ.get("PROBE_LAB_DIR") or DEFAULT_LAB)
    lab.mkdir(parents=True, exist_ok=True)
    lab.chmod(0o755)
    return lab


def busybox_sandbox(lab: Path) -> Path:
    """A sandbox (folder) image of about 2 MB with a static busybox: LAB/images/busybox."""
    target = lab / "images" / "busybox"
    if target.exists():
        for folder in MOUNT_POINTS:  # of a lab that was made before one of them was wanted
            (target / folder).mkdir(exist_ok=True)
        return target
    busybox = _static_busybox()
    with _made_whole(target) as image:
        for folder in ("bin", "etc", *MOUNT_POINTS):
            (image / folder).mkdir(parents=True)
        for name in EMPTY_FILES:
            (image / name).touch()
        (image / "etc/os-release").write_text(OS_RELEASE)
        shutil.copy(busybox, image / "bin/busybox")
        for applet in APPLETS:
            (image / "bin" / applet).symlink_to("busybox")
    return target


def busybox_sif(lab: Path, apptainer: Path, compression: str = "gzip") -> Path:
    """The same image as one SIF file, its file system compressed by `compression` (gzip, zstd, xz, lz4)."""
    target = lab / "images" / f"busybox-{compression}.sif"
    if target.exists():
        return target
    sandbox = busybox_sandbox(lab)
    _tool("mksquashfs", package="squashfs-tools")
    with _made_whole(target) as sif:
        _run([str(apptainer), "build", f"--mksquashfs-args=-comp {compression}", str(sif), str(sandbox)])
    return target


def ensure_user(name: str = "glidein") -> pwd.struct_passwd:
    """The ordinary user that commands under test run as; made by useradd if need be, which takes root."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        pass
    if os.geteuid() != 0:
        raise LabError(f"there is no user {name}; as root: useradd --create-home {name}")
    made = subprocess.run(
        [_tool("useradd", package="passwd"), "--create-home", name], capture_output=True, text=True, check=False
    )
    try:
        return pwd.getpwnam(name)  # also after a run side by side was faster, when useradd says "already exists"
    except KeyError:
        raise LabError(f"useradd --create-home {name} failed: {made.stderr.strip()}") from None


def _static_busybox() -> str:
    """The path of a busybox that runs without any library: an image has none."""
    busybox = _tool("busybox", package="busybox-static")
    with Path(busybox).open("rb") as program:
        head = program.read(4096)  # a dynamic program names its loader right behind the ELF headers
    if b"/ld-" in head:
        raise LabError(f"{busybox} is not static; install the package busybox-static")
    return busybox


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise LabError(f"{name} is missing; install the package {package}")
    return path


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)} failed with exit code {done.returncode}: {done.stderr.strip()[-1000:]}")


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A path to make a file or folder at, which becomes `target` at the end, readable for all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.parent.chmod(0o755)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        made = work / target.name
        yield made
        _run(["chmod", "-R", "a+rX", str(made)])  # whatever the umask
        try:
            made.rename(target)
        except OSError:  # a run side by side was faster: a folder does not replace a filled folder
            if not target.exists():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
