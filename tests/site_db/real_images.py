"""Real images for tests: a few packages of Debian 12 and 13, for x86-64 and aarch64, unpacked into folders.

Packages come by apt with lists and caches of its own, from the mirror that the machine's own sources name, and are kept in
the lab's folder. A release or architecture that cannot be had is said by RealImageError.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab.images import lab_folder

PACKAGES = ("libc6", "base-files", "coreutils", "dash")
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"


class RealImageError(RuntimeError):
    """An image cannot be had here: `str(error)` says why."""


def debian(release: str, arch: str) -> Path:
    """The folder of an image with the C library, a shell and coreutils of a release ("bookworm"), for "amd64", "arm64"."""
    target = lab_folder() / "images" / f"debian-{release}-{arch}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=target.parent) as made:
        work, image = Path(made), Path(made, "image")
        image.mkdir()
        _merge_usr(image)
        for package in _download(work, release, arch):
            _run("dpkg-deb", "-x", str(package), str(image))
        if not (image / "bin/sh").exists():
            (image / "bin/sh").symlink_to("dash")
        for folder in ("proc", "sys", "dev", "tmp", "home", "srv", "var/tmp", "etc"):
            (image / folder).mkdir(parents=True, exist_ok=True)
        for name in ("passwd", "group", "resolv.conf", "hosts", "localtime"):
            (image / "etc" / name).touch()
        _run("chmod", "-R", "a+rX", str(image))
        try:
            image.rename(target)
        except OSError:  # a run side by side was faster
            if not target.exists():
                raise
    return target


def _merge_usr(image: Path) -> None:
    """As debootstrap does: the folders at the top are links into /usr."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (image / "usr" / name).mkdir(parents=True)
        (image / name).symlink_to(f"usr/{name}")


def _download(work: Path, release: str, arch: str) -> list[Path]:
    for folder in ("state/lists/partial", "cache/archives/partial", "packages", "parts"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    problems = []
    for mirror in _mirrors():
        (work / "source.list").write_text(f"deb [signed-by={_KEYS}] {mirror} {release} main\n")
        options = {
            "Dir::Etc::sourcelist": work / "source.list",
            "Dir::Etc::sourceparts": work / "parts",
            "Dir::Etc::preferencesparts": work / "parts",
            "Dir::State": work / "state",
            "Dir::State::status": work / "status",
            "Dir::Cache": work / "cache",
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Check-Valid-Until": "false",
        }
        apt = ["apt-get", "-q", *(f"-o{name}={value}" for name, value in options.items())]
        try:
            _run(*apt, "update", "-oAPT::Update::Error-Mode=any")
            _run(*apt, "download", *PACKAGES, cwd=work / "packages")
        except RealImageError as error:
            problems.append(str(error))
            continue
        return sorted((work / "packages").glob("*.deb"))
    raise RealImageError("; ".join(problems) or "no source in /etc/apt serves Debian")


def _mirrors() -> Iterator[str]:
    """Addresses of this machine's own sources that end as Debian's archive does."""
    if not shutil.which("apt-get") or not Path(_KEYS).exists():
        return
    texts = [path.read_text() for path in sorted(Path("/etc/apt").glob("sources.list*/*"))]
    texts += [path.read_text() for path in Path("/etc/apt").glob("sources.list")]
    lines = [line for text in texts for line in text.splitlines() if not line.lstrip().startswith("#")]
    yield from dict.fromkeys(match[0] for line in lines if (match := re.search(r"\w+://\S+/debian(?=/?(\s|$))", line)))


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RealImageError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")
