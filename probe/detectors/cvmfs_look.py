"""Looking at one repository: list it, ask the client's attributes, read a small file. Any of it may hang.

All of it goes through one descriptor of the root, so that a repository that is unmounted meanwhile is told from a folder
that is empty. Devices, pipes and links are never opened.
"""

import errno
import os
import stat
import time
from typing import Any, Dict, Iterator, List, Optional

# How far a small file is looked for, and how much of it is read.
LOOK_ENTRIES = 40
LOOK_FOLDERS = 4
LOOK_S = 1.0
READ_BYTES = 64 * 1024
SMALL_BYTES = 1024 * 1024
# Looked for by name first: cvmfs_server makes the one and publishers the other.
USUAL_FILES = (".cvmfsdirtab", "new_repository")
# A repository that took longer than this is not looked at a second time.
WARM_S = 1.0

# Emergency clean-ups of the cache within a day, descriptors of the client: many and near their maximum where a quota or a
# limit is too low (field evidence 39 and 40).
COUNTS = ("ncleanup24", "maxfd", "usedfd")
ATTRIBUTES = ("fqrn", "revision", "root_hash", "version", "host", "proxy", "nioerr", "timestamp_last_ioerr", *COUNTS)

ROOT_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK
FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW


def look(path: str, known_file: Optional[str] = None) -> Dict[str, Any]:
    """Failures are data: ``step`` (list, attributes, read) and ``errno`` of what failed, None and None where nothing did.

    names: how many the root has; attributes; read: the file's path, None where none is near; short_read: [bytes got,
    bytes that it should have]; content: "verified" or "differs" (see cvmfs_content), None where that cannot be told;
    plain: the root is an ordinary folder of the file system around it; latency_s, warm_latency_s.
    """
    found: Dict[str, Any] = {"names": None, "attributes": {}, "read": None, "step": "list", "errno": None}
    began = time.monotonic()
    try:
        _look(path, known_file, found)
        found["latency_s"] = time.monotonic() - began
        if found["latency_s"] < WARM_S:
            found["warm_latency_s"] = _again(path, found["read"])
        found["step"] = None
    except OSError as error:
        found["errno"] = error.errno
    return found


def _look(path: str, known_file: Optional[str], found: Dict[str, Any]) -> None:
    root = os.open(path, ROOT_FLAGS)
    try:
        names = sorted(os.listdir(root))
        found["names"] = len(names)
        if not names:
            found["plain"] = os.fstat(root).st_dev == os.stat(os.path.dirname(path)).st_dev
        found["step"] = "attributes"
        found["attributes"] = read_attributes(root)
        found["step"] = "read"
        name = _read_some(root, known_file, names, found)
        found["read"] = name and os.path.join(path, name)
    finally:
        os.close(root)


def _again(path: str, file: Optional[str]) -> float:
    """The same file once more; the list where there is none."""
    began = time.monotonic()
    if file is None:
        os.listdir(path)
    else:
        descriptor = os.open(file, FILE_FLAGS)
        try:
            os.read(descriptor, READ_BYTES)
        finally:
            os.close(descriptor)
    return time.monotonic() - began


def read_attributes(root: int) -> Dict[str, str]:
    """The client's attributes that can be read. NFS exports have none; protected ones give ENODATA to ordinary users."""
    found = {}
    for name in ATTRIBUTES:
        try:
            found[name] = os.getxattr(root, "user." + name).decode("utf-8", "replace").strip("\0\n ")
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                break
            if error.errno not in (errno.ENODATA, errno.EPERM, errno.EACCES):
                raise
    return found


def _read_some(root: int, known_file: Optional[str], names: List[str], found: Dict[str, Any]) -> Optional[str]:
    """Read the first small file that is found; its name below the root. Where all are denied, so is the repository."""
    denied: Optional[OSError] = None
    for name in _candidates(root, known_file, names):
        try:
            if _read(root, name, found):
                return name
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                denied = error
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
    if denied is not None:
        raise denied
    return None


def _candidates(root: int, known_file: Optional[str], names: List[str]) -> Iterator[str]:
    if known_file:
        yield known_file
    usual = [name for name in USUAL_FILES if name in names]
    yield from usual
    others = [name for name in names if name not in usual]
    yield from others[:LOOK_ENTRIES]
    until = time.monotonic() + LOOK_S
    folders = [name for name in others[:LOOK_ENTRIES] if _is_folder(root, name)][:LOOK_FOLDERS]
    for _level in (1, 2):
        below = [path for folder in folders for path in _below(root, folder, until)]
        yield from below
        folders = [path for path in below if _is_folder(root, path)][:LOOK_FOLDERS]


def _below(root: int, folder: str, until: float) -> List[str]:
    if time.monotonic() > until:
        return []
    descriptor = os.open(folder, ROOT_FLAGS | os.O_NOFOLLOW, dir_fd=root)
    try:
        return [folder + "/" + name for name in sorted(os.listdir(descriptor))[:LOOK_ENTRIES]]
    finally:
        os.close(descriptor)


def _is_folder(root: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode)
    except OSError:  # it is not read, then
        return False


def _read(root: int, name: str, found: Dict[str, Any]) -> bool:
    """Read a file's beginning, if it is a small one."""
    status = os.stat(name, dir_fd=root, follow_symlinks=False)
    if not (stat.S_ISREG(status.st_mode) and 0 < status.st_size <= SMALL_BYTES):
        return False
    descriptor = os.open(name, FILE_FLAGS, dir_fd=root)
    try:
        data = _read_bytes(descriptor, min(status.st_size, READ_BYTES))
        if len(data) < min(status.st_size, READ_BYTES):
            found["short_read"] = [len(data), status.st_size]
        elif len(data) == status.st_size and "fqrn" in found["attributes"]:
            from probe.detectors import cvmfs_content

            found["content"] = cvmfs_content.compare(descriptor, data)
    finally:
        os.close(descriptor)
    return True


def _read_bytes(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        block = os.read(descriptor, size - len(data))
        if not block:
            break
        data += block
    return data

