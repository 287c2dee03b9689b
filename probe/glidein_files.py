"""glidein_config and the condor vars file, changed so that no reader ever sees less than a whole file.

Who else writes them (GlideinWMS's add_config_line.source, read and run): ``add_config_line`` copies the file, greps the
old line out, appends the new one and renames; nobody is locked out. ``add_config_line_safe`` does that under a lock:
a symbolic link FILE.lock, in older releases a flock on the plain file FILE.lock. ``add_condor_vars_line`` moves the file
away and writes it anew, so that for a moment it is not there, or not whole.

We write a file beside it and rename, if nothing has changed meanwhile; else we begin again. The link is waited for and
not taken: whoever dies with it keeps others out for a minute and longer. Ours take turns by a flock on the folder, which
the kernel drops with its holder. There is no fsync: the glidein does not outlive the node, and a full disk or quota
shows when the file is written or closed.
"""

import errno
import os
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

PART = ".singularity-probe."
# What others' changes get to come to an end in; their own take some milliseconds.
PATIENCE_S = 3.0
PAUSE_S = 0.01
# Where locks don't work: another run's unfinished file of this age is nobody's any more.
STALE_S = 60.0
# What a shell's eval, HTCondor's configuration and ClassAds take as it is; condor_startup.sh evals each value.
UNSAFE = set("\"'`$\\")
VALUE_LIMIT = 1000


class Change(NamedTuple):
    """What a file is to say: ``lines`` to be its last ones, and ``names`` whose present lines go."""

    names: List[str]
    lines: List[str]


def safe_text(text: str, limit: int = VALUE_LIMIT) -> str:
    """A text for a line of these files: printable ASCII without what a shell or HTCondor would take for its own."""
    cleaned = "".join(c if " " <= c <= "~" and c not in UNSAFE else "?" for c in text[:limit])
    return " ".join(cleaned.split(" ")).strip()


def type_of(value: Any) -> str:
    """GlideinWMS's letter for a value's type: S quoted string, I integer, C expression."""
    if isinstance(value, bool):
        return "C"
    if isinstance(value, int):
        return "I"
    return str(getattr(value, "glidein_type", "S"))


def text_of(value: Any) -> str:
    """A value as glidein_config has it; shell scripts there compare with True."""
    if isinstance(value, (bool, int)):
        return str(value)
    return safe_text(value, getattr(value, "limit", VALUE_LIMIT))


def config_change(values: Dict[str, Any], names: Iterable[str]) -> Change:
    """The change of glidein_config that sets values; ``names`` are all that we may ever have set."""
    lines = ["{} {}".format(name, text_of(value)) for name, value in values.items()]
    return Change(sorted(set(names) | set(values)), lines)


def vars_change(values: Dict[str, Any], names: Iterable[str]) -> Change:
    """The change of the condor vars file: seven columns, published by the startd, not in the job's environment."""
    lines = ["{} {} - + N Y -".format(name, type_of(value)) for name, value in values.items()]
    return Change(sorted(set(names) | set(values)), lines)


def changed(content: bytes, change: Change) -> bytes:
    """The file's new content; lines of others stay as they are, byte by byte."""
    names = {name.encode() for name in change.names}
    kept = [line for line in content.split(b"\n") if line.split(b" ", 1)[0].rstrip(b"\r") not in names]
    body = b"\n".join(kept)
    if body and not body.endswith(b"\n"):
        body += b"\n"
    return body + "".join(line + "\n" for line in change.lines).encode()


def apply(path: str, change: Change) -> Optional[str]:
    """Change a file; returns None, or what went wrong: then the file is what it was. May hang."""
    path = os.path.realpath(path)
    try:
        with _Turn(os.path.dirname(path)) as turn:
            _remove_leftovers(path, turn.ours_alone)
            until = time.monotonic() + PATIENCE_S
            while not _try(path, change):
                if time.monotonic() > until:
                    return "{}: others change it all the time".format(path)
                time.sleep(PAUSE_S)
    except OSError as error:
        return "{}: {}".format(path, os.strerror(error.errno or errno.EIO))
    return None


def _try(path: str, change: Change) -> bool:
    """Change the file once; False where somebody else was at it. Raises OSError."""
    if _link_is_held(path):
        return False
    with _OlderLock(path):
        try:
            content, before = _read(path)
        except FileNotFoundError:
            if os.path.exists(path + ".old"):  # add_condor_vars_line is at work
                return False
            raise
        wanted = changed(content, change)
        if wanted == content:
            return True
        part = "{}{}{}".format(path, PART, os.getpid())
        try:
            _write(part, wanted, before)
            if _link_is_held(path) or _state(os.stat(path)) != _state(before):
                return False
            os.rename(part, path)
        finally:
            _unlink(part)
    # Whoever copied the file before and renames after us takes our lines with him.
    time.sleep(0.001)
    return _says(path, change)


def _link_is_held(path: str) -> bool:
    """Whether newer releases' add_config_line_safe is at work; FILE.pid names who holds the link."""
    try:
        made = os.lstat(path + ".lock")
    except FileNotFoundError:
        return False
    if made.st_mode & 0o170000 != 0o120000:
        return False
    try:
        pid = _read(path + ".pid")[0].decode("ascii").strip()
    except (OSError, ValueError):
        return time.time() - made.st_mtime < PATIENCE_S
    return os.path.exists("/proc/" + pid)


def _read(path: str) -> Tuple[bytes, os.stat_result]:
    with open(path, "rb") as stream:
        before = os.fstat(stream.fileno())
        return stream.read(), before


def _write(path: str, content: bytes, like: os.stat_result) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        left = content
        while left:
            left = left[os.write(descriptor, left) :]
        os.fchmod(descriptor, like.st_mode & 0o7777)
        if os.fstat(descriptor).st_size != len(content):
            raise OSError(errno.EIO, "")
    finally:
        os.close(descriptor)


def _state(found: os.stat_result) -> Tuple[int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _says(path: str, change: Change) -> bool:
    try:
        content = _read(path)[0]
    except FileNotFoundError:
        return False
    return set(change.lines) <= set(content.decode("utf-8", "replace").split("\n"))


class _Turn:
    """Ours take turns: a flock on the folder. ``ours_alone`` is False where locks don't work there."""

    def __init__(self, folder: str) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY)
        self.ours_alone = False

    def __enter__(self) -> "_Turn":
        self.ours_alone = _flock(self._descriptor)
        return self

    def __exit__(self, *_: Any) -> None:
        os.close(self._descriptor)


class _OlderLock:
    """The flock of older releases' add_config_line_safe, where its file is there."""

    def __init__(self, path: str) -> None:
        self._descriptor: Optional[int] = None
        try:
            self._descriptor = os.open(path + ".lock", os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # not there, or the link of newer ones, which is waited for elsewhere
            pass

    def __enter__(self) -> None:
        if self._descriptor is not None:
            _flock(self._descriptor)

    def __exit__(self, *_: Any) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _flock(descriptor: int) -> bool:
    """Take a lock within the patience; False where it can't be had or locks don't work."""
    import fcntl

    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
        except OSError:  # ENOLCK, EOPNOTSUPP: a network file system without locks
            return False


def _remove_leftovers(path: str, ours_alone: bool) -> None:
    """Remove what runs left that were killed while they wrote."""
    folder, name = os.path.split(path)
    for entry in os.listdir(folder):
        if entry.startswith(name + PART):
            leftover = os.path.join(folder, entry)
            try:
                if ours_alone or time.time() - os.stat(leftover).st_mtime > STALE_S:
                    os.unlink(leftover)
            except OSError:  # gone meanwhile
                pass


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
