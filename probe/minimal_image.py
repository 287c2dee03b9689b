"""An image of our own: the payload and the mount points that Singularity wants, as a folder and as SIF files.

It tells a broken runtime from a broken image: if this image runs, the runtime is fine.
The packed data are made by scripts/build-probe; a checkout that was not built has none.
"""

import os
from typing import Optional

from probe import packed

PAYLOAD_PATH = "/payload"
COMPRESSIONS = ("gzip", "zstd")

# Found by taking each away from Apptainer 1.4.5 under the factory's test command. Without dev it fails; without tmp,
# var/tmp, etc/passwd and etc/group it warns; proc is needed where overlay is off; sys, srv, cvmfs and the other files
# in etc where neither overlay nor underlay can make them. home and root are for commands without --home.
_FOLDERS = ("bin", "cvmfs", "dev", "etc", "home", "proc", "root", "srv", "sys", "tmp", "var", "var/tmp")
_EMPTY_FILES = ("etc/group", "etc/hosts", "etc/localtime", "etc/passwd", "etc/resolv.conf")
# Singularity 2.x ("No valid /bin/sh in container") and 3.0 to 3.5 ("shell /bin/sh doesn't exist in container") look
# for a shell before any exec and never run it. Relative: 2.x looks from outside the container.
_SHELL = ("bin/sh", "../payload")


def payload(arch: str) -> Optional[bytes]:
    """Return the static test program for an architecture as os.uname() names it; None if this build has none.

    Called as `payload NONCE [PATH...]` it prints lines that begin with the nonce; see payload/payload-x86_64.S.
    """
    return packed.read("payload-" + arch)


def sif(arch: str, compression: str) -> Optional[bytes]:
    """Return the image as a SIF file; compression is one of COMPRESSIONS. None if this build has none."""
    return packed.read("image-{}-{}.sif".format(arch, compression))


def create_sandbox(folder: str, arch: str) -> None:
    """Make the image as a folder, whatever the umask is.

    Raises LookupError if this build has no payload for arch, OSError if the folder can't be written.
    """
    program = payload(arch)
    if program is None:
        raise LookupError("this build of the probe has no payload for " + arch)
    _make_folder(folder)
    for name in _FOLDERS:
        _make_folder(os.path.join(folder, name))
    for name in _EMPTY_FILES:
        _write_file(os.path.join(folder, name), b"", 0o644)
    _write_file(folder + PAYLOAD_PATH, program, 0o755)
    os.symlink(_SHELL[1], os.path.join(folder, _SHELL[0]))


def _make_folder(path: str) -> None:
    os.makedirs(path, exist_ok=True)
    os.chmod(path, 0o755)  # noqa: S103 - an image is read by whoever Singularity maps us to


def _write_file(path: str, content: bytes, mode: int) -> None:
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
