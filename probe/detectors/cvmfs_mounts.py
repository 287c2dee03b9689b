"""CVMFS as the mount table shows it: no file system is touched."""

from typing import Dict, List, Optional

DEFAULT_DIR = "/cvmfs"


def mounted_under(mounts: List[Dict[str, str]], mount_dir: str) -> List[Dict[str, str]]:
    """The mounts at or below CVMFS's folder."""
    return [mount for mount in mounts if mount["point"] == mount_dir or mount["point"].startswith(mount_dir + "/")]


def kind_of(mounts: List[Dict[str, str]], mount_dir: str, uses_cvmfsexec: bool) -> str:
    """How CVMFS is mounted: autofs, fuse, cvmfsexec, nfs, bind or none."""
    found = mounted_under(mounts, mount_dir)
    types = {mount["type"] for mount in found}
    if not found:
        return "none"
    if uses_cvmfsexec or mount_dir != DEFAULT_DIR:
        return "cvmfsexec"
    if "autofs" in types:
        return "autofs"
    if any(kind.startswith("nfs") for kind in types):
        return "nfs"
    if any(mount["point"] == mount_dir for mount in found):
        return "bind"  # the folder itself is a mount of something else: an outer container's bind
    return "fuse" if any(kind.startswith("fuse") for kind in types) else "bind"


def mount_of(mounts: List[Dict[str, str]], path: str) -> Optional[Dict[str, str]]:
    """The mount at exactly this path, the last one made there."""
    exact = [mount for mount in mounts if mount["point"] == path]
    return exact[-1] if exact else None
