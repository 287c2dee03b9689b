"""A folder where reports wait: each a file, whole or not there. Several runs may use it at once. May hang; raises OSError."""

import os
import time
from typing import Any, Dict, Iterator, List

from probe import posting

# What a folder may hold; the oldest go first. A node's reports are much alike, so the newest say most.
FILES_LIMIT = 200
LIMIT_BYTES = 32 * 1024 * 1024
PART_LIFE_S = 3600.0
SUFFIX, PART, REFUSED = ".json", ".part", ".refused"


def keep(folder: str, report_id: str, body: str) -> Dict[str, Any]:
    """Write a report; returns {"path", "dropped"}: how many older ones had to go for it."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    dropped = make_room(folder, len(body), time.time())
    path = os.path.join(folder, report_id + SUFFIX)
    try:
        with open(path + PART, "w") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(path + PART, path)
    except OSError:
        remove(path + PART)
        raise
    return {"path": path, "dropped": dropped}


def make_room(folder: str, wanted_bytes: int, now: float) -> int:
    """Remove the oldest files until one more fits, and what killed runs left half-written; returns how many reports went."""
    names = os.listdir(folder)
    for name in names:
        if name.endswith(SUFFIX + PART) and now - _status(folder, name)[0] > PART_LIFE_S:
            remove(os.path.join(folder, name))
    kept = sorted([*_status(folder, name), name] for name in names if name.endswith((SUFFIX, SUFFIX + REFUSED)))
    used, dropped = sum(size for _, size, _ in kept), 0
    while kept and (len(kept) >= FILES_LIMIT or used + wanted_bytes > LIMIT_BYTES):
        _, size, name = kept.pop(0)
        remove(os.path.join(folder, name))
        used, dropped = used - size, dropped + 1
    return dropped


def waiting(folder: str) -> List[str]:
    """Paths of the reports that wait, the oldest first; none where there is no folder."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(SUFFIX)]
    except FileNotFoundError:
        return []
    return [os.path.join(folder, name) for _, _, name in sorted([*_status(folder, name), name] for name in names)]


def send(path: str, sending: posting.Sending) -> Iterator[Dict[str, Any]]:
    """POST a report that waits, as posting.post does; one that is gone was delivered by another run."""
    try:
        with open(path, "rb") as stream:
            body = stream.read(LIMIT_BYTES).decode("ascii", "replace")
    except FileNotFoundError:
        return iter([{"code": 200, "text": "", "is_ours": True, "retry_after_s": 0.0}])
    return posting.post(sending, body, os.path.basename(path)[: -len(SUFFIX)])


def refuse(path: str) -> None:
    """Set a report aside that no collector will ever take: it must not stand before the others for ever."""
    try:
        os.rename(path, path + REFUSED)
    except FileNotFoundError:  # another run was faster
        pass


def remove(path: str) -> None:
    """Remove a file, if it is still there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _status(folder: str, name: str) -> List[Any]:
    try:
        status = os.stat(os.path.join(folder, name))
    except FileNotFoundError:  # another run was faster
        return [0.0, 0]
    return [status.st_mtime, status.st_size]
