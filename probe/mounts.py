"""The mount table: what lies where, told by the kernel without touching any file system."""

import re
from typing import Any, Dict, List, Optional

Mount = Dict[str, str]

# File systems that answer without a server. What is not here may hang.
LOCAL_TYPES = {
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "tmpfs", "ramfs", "rootfs", "overlay", "squashfs", "erofs", "f2fs", "jfs",
    "devtmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "hugetlbfs", "iso9660", "vfat", "bcachefs",
}  # fmt: skip


def parse_mountinfo(text: str) -> List[Mount]:
    """/proc/self/mountinfo: root, mount point, options, file system type, source, super options of each mount."""
    mounts = []
    for line in text.split("\n"):
        left, _, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if len(fields) >= 6 and len(tail) >= 2:
            mounts.append(
                {
                    "root": _unescape(fields[3]),
                    "point": _unescape(fields[4]),
                    "options": fields[5],
                    "type": tail[0],
                    "source": _unescape(tail[1]),
                    "super": tail[2] if len(tail) > 2 else "",
                }
            )
    return mounts


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def holding(mounts: List[Mount], path: str) -> Optional[Mount]:
    """The mount that a path lies on, as far as its text tells (links are not followed); None without a table."""
    found = None
    for mount in mounts:
        point = mount["point"].rstrip("/")
        inside = path == point or path.startswith(point + "/")
        if inside and (found is None or len(point) >= len(found["point"].rstrip("/"))):
            found = mount  # the later of two at one place covers the earlier
    return found


def is_local(mounts: List[Mount], path: str) -> bool:
    """Whether a path lies on a file system that answers without a server, as far as its text tells."""
    mount = holding(mounts, path)
    return mount is not None and mount["type"] in LOCAL_TYPES


def is_mounted_by_touch(mounts: List[Mount], path: str) -> bool:
    """Whether an automounter mounts what a path lies on when it is touched."""
    mount = holding(mounts, path)
    return mount is not None and mount["type"] == "autofs" and mount["point"] != path


def covering_proc(mounts: List[Mount]) -> Dict[str, Any]:
    """What covers parts of /proc (an outer container's masks) and the hidepid option."""
    points = [mount["point"] for mount in mounts if mount["point"].startswith("/proc/")]
    harmless = (
        "/proc/sys/fs/binfmt_misc",
        "/proc/fs/nfsd",
    )  # ordinary hosts mount these, and a fresh /proc still works
    options = [option for mount in mounts if mount["point"] == "/proc" for option in mount["super"].split(",")]
    hidepid = [option.partition("=")[2] for option in options if option.startswith("hidepid=")]
    return {
        "masked": sorted(set(points) - set(harmless)),
        "hidepid": hidepid[-1] if hidepid and hidepid[-1] not in ("0", "off") else None,
    }
