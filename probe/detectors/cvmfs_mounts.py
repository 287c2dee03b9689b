"""CVMFS as the mount table shows it: no file system is touched."""

from typing import Dict, List, Optional

DEFAULT_DIR = "/cvmfs"


def as_linked(mounts: List[Dict[str, str]], mount_dir: str, target: Optional[str]) -> List[Dict[str, str]]:
    """The mount table as it looks through a link: CVMFS's folder may be one to where it is mounted."""
    if target is None:
        return mounts
    under = mounted_under(mounts, target)
    return [dict(mount, point=mount_dir + mount["point"][len(target) :]) if mount in under else mount for mount in mounts]


def mounted_under(mounts: List[Dict[str, str]], mount_dir: str) -> List[Dict[str, str]]:
    """The mounts at or below CVMFS's folder."""
    return [mount for mount in mounts if mount["point"] == mount_dir or mount["point"].startswith(mount_dir + "/")]


def kind_of(mounts: List[Dict[str, str]], mount_dir: str, uses_cvmfsexec: bool, in_parrot: bool = False) -> str:
    """How CVMFS is mounted: autofs, fuse, cvmfsexec, nfs, bind, parrot (it traces system calls and mounts nothing) or none.

    The client's file systems are of type ``fuse`` with the source ``cvmfs2`` (CVMFS 2.12, run).
    """
    found = mounted_under(mounts, mount_dir)
    if not found:
        return "parrot" if in_parrot else "none"
    types = {mount["type"] for mount in found}
    if "autofs" in types:
        return "bind" if any(_is_foreign(mount) for mount in found) else "autofs"
    if any(kind.startswith("nfs") for kind in types):
        return "nfs"
    is_fuse = any(kind.startswith("fuse") for kind in types)
    if is_fuse and (uses_cvmfsexec or mount_dir != DEFAULT_DIR):
        return "cvmfsexec"
    if any(mount["point"] == mount_dir for mount in found):
        return "bind"  # the folder itself is a mount of something else: an outer container's bind
    return "fuse" if is_fuse else "bind"


def _is_foreign(mount: Dict[str, str]) -> bool:
    """Whether an automounter works outside this pid namespace, so that the mount was bound in: the kernel then shows
    its process group as 0 (Linux, fs/autofs/inode.c: pid_vnr)."""
    return mount["type"] == "autofs" and "pgrp=0" in mount["super"].split(",")


def is_automounted(mounts: List[Dict[str, str]], mount_dir: str) -> bool:
    """Whether repositories are mounted when they are touched."""
    return any(mount["type"] == "autofs" for mount in mounted_under(mounts, mount_dir))


def repositories_of(mounts: List[Dict[str, str]], mount_dir: str) -> List[str]:
    """The names of the repositories that are mounted now."""
    names = [mount["point"][len(mount_dir) + 1 :] for mount in mounted_under(mounts, mount_dir)]
    return [name for name in names if name and "/" not in name]


def mount_of(mounts: List[Dict[str, str]], path: str) -> Optional[Dict[str, str]]:
    """The mount at exactly this path, the last one made there."""
    exact = [mount for mount in mounts if mount["point"] == path]
    return exact[-1] if exact else None
