"""Which images a run is asked for, where they are on this node, and what kind of thing lies there."""

import errno
import os
import re
import stat
from typing import Any, Dict, List, Optional

from probe.detectors import cvmfs_mounts
from probe.settings import Settings

SIF_MAGIC = b"SIF_MAGIC"
MOST_LINKS = 40  # as the kernel

# Settings of the glidein that name one image, and the key that stands for it.
SINGLE = {
    "SINGULARITY_IMAGE_DEFAULT6": "rhel6",
    "SINGULARITY_IMAGE_DEFAULT7": "rhel7",
    "SINGULARITY_IMAGE_DEFAULT": "default",
    "APPTAINER_TEST_IMAGE": "test",
}

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


def references(settings: Settings) -> Dict[str, List[str]]:
    """The images to try with their keys: those given, SINGULARITY_IMAGES_DICT's (key:path,key:path), the glidein's own."""
    found: Dict[str, List[str]] = {reference: [] for reference in settings.images}
    items = [item.partition(":") for item in (settings.configured("SINGULARITY_IMAGES_DICT") or "").split(",")]
    pairs = [(key.strip(), reference.strip()) for key, _, reference in items]
    pairs += [(key, settings.configured(name) or "") for name, key in SINGLE.items()]
    for key, reference in pairs:
        if reference and key not in found.setdefault(reference, []):
            found[reference].append(key)
    return found


def is_url(reference: str) -> bool:
    """Whether it names an image that is fetched."""
    return re.match(r"[a-z][a-z0-9+.-]*://", reference) is not None


def place(reference: str, mount_dir: str, folder: Optional[str]) -> str:
    """The absolute path of an image on this node: /cvmfs stands for wherever CVMFS is mounted.

    A name that begins with a dash would be an option of the runtime's.
    """
    path = reference if reference.startswith("/") else os.path.join(folder or "/", reference)
    if mount_dir != cvmfs_mounts.DEFAULT_DIR and path.startswith(cvmfs_mounts.DEFAULT_DIR + "/"):
        return mount_dir + path[len(cvmfs_mounts.DEFAULT_DIR) :]
    return path


def resolve(path: str, mount_dir: str) -> str:
    """The path without links; absolute ones into /cvmfs lead into where CVMFS is mounted, as for the glidein
    (singularity_lib.sh, cvmfs_resolve_path). May hang; raises OSError, ELOOP where links go round."""
    real, links = "/", 0
    todo = path.split("/")[::-1]
    while todo:
        part = todo.pop()
        if part in ("", ".", ".."):
            real = os.path.dirname(real) if part == ".." else real
            continue
        candidate = os.path.join(real, part)
        try:
            target = os.readlink(candidate)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            real = candidate
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            target, real = place(target, mount_dir, None), "/"
        todo += target.split("/")[::-1]
    return real


def look(path: str, mount_dir: str = cvmfs_mounts.DEFAULT_DIR) -> Dict[str, Any]:
    """Kind and readability of an image. May hang. Returns real (links resolved) and kind, odd: what it is instead of an
    image, or errno. Only folders and regular files are opened."""
    try:
        real = resolve(path, mount_dir)
        mode = os.stat(real).st_mode
        if stat.S_ISDIR(mode):
            os.listdir(real)
            return {"real": real, "kind": "sandbox"}
        if not stat.S_ISREG(mode):
            return {"real": real, "kind": None, "odd": KINDS.get(stat.S_IFMT(mode), "no file")}
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK)
        try:
            head = os.read(descriptor, 64)
        finally:
            os.close(descriptor)
    except OSError as error:
        return {"errno": error.errno}
    return {"real": real, "kind": "sif" if SIF_MAGIC in head else None}
