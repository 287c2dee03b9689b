"""A store in a process of its own: whoever takes reports keeps its processor time for taking them.

In one process the threads that take reports and the one that stores them would wait for each other's interpreter lock,
some milliseconds each time: measured, a tenth of the rate. The child gets reports as the texts that came, and ends when
its pipe does, that is with its parent, however that ended.
"""

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from site_db import garbage, segments
from site_db.errors import DatabaseUnavailable, SiteDbError
from site_db.known_reports import known_reports
from site_db.segments import Frame
from site_db.store import Store, Submission
from site_db.times import moment

LOG = logging.getLogger("site_db.collector")
# Not -m: what is pickled there has to be of the module of this name here.
_CHILD = "import sys; from site_db.store_process import main; main(int(sys.argv[1]))"


_NICER = 15
# A child that does not end in this time hangs with its database; what it was given is not acknowledged, or in the inbox.
_ENDING_S = 20.0
# What will not be there the next time, either.
_GONE = (errno.ENOENT, errno.EIO)


class _Text(NamedTuple):
    """A report as it came, and when."""

    raw: bytes
    received_at: datetime


class _Failed(NamedTuple):
    """What the child answers when storing failed: an error of ours, or the words of another."""

    is_ours: bool
    message: str
    remedy: str


class StoreProcess:
    """Store.add in another process, for site_db.writer.Writer; started with the first report, anew when it died.

    `place` is where the database is, for people. One thread at a time may add.
    """

    def __init__(self, url: str, place: str) -> None:
        self.place = place
        self._url = url
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id; None where there is none."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def start(self) -> None:
        """Start the child now: the first report is not to wait for it."""
        with self._lock:
            if self._pipe is None:
                self._start()

    def add(self, submissions: Sequence[Submission]) -> list[str]:
        """As Store.add. Raises DatabaseUnavailable, also when the child died: whether it stored them nobody knows."""
        answer = self._answer([_Text(item.raw, item.received_at) for item in submissions])
        return ["new" if is_new else "known" for is_new in answer]

    def _answer(self, work: list[Any]) -> bytes:
        with self._lock:
            try:
                answer = self._asked(work)
            except (EOFError, OSError) as error:
                self._end()
                LOG.error("the process that stores reports ended; another is started")
                raise DatabaseUnavailable(
                    f"{self.place}: the process that stores reports ended.", "It is started anew."
                ) from error
        if isinstance(answer, _Failed):
            raise (
                DatabaseUnavailable(answer.message, answer.remedy) if answer.is_ours else RuntimeError(answer.message)
            )
        answered: bytes = answer
        return answered

    def record(self, group: Sequence[Frame]) -> None:
        """Store the reports of frames of an inbox, each once. Raises DatabaseUnavailable; then try the same again."""
        self._answer(list(group))

    def close(self) -> None:
        """End the child; what it was given is stored."""
        with self._lock:
            self._end()

    def _asked(self, work: list[Any]) -> Any:  # noqa: ANN401 - bytes of booleans, or _Failed
        if self._pipe is None:
            self._start()
        assert self._pipe  # noqa: S101 - _start made it
        self._pipe.send(work)
        return self._pipe.recv()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-c", _CHILD, str(theirs.fileno())]
        # The child has to find this package where this process found it.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
            )
        # Over the pipe: a URL may hold a password, and everybody sees arguments.
        self._pipe.send(self._url)

    def _end(self) -> None:
        if self._pipe:
            self._pipe.close()
        if self._child:
            try:
                self._child.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._pipe = self._child = None


def main(descriptor: int) -> None:
    """The child: store what comes, until the pipe ends."""
    # They are for the parent, which ends the pipe when it is done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # End of file, or a parent that died before it took the answer.
    with Connection(descriptor) as pipe, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        url = pipe.recv()
        garbage.look_seldom()
        store: Store | None = None
        is_behind = False
        while True:
            work = pipe.recv()
            try:
                store = store or Store.open(url)
                if isinstance(work[0], Frame) and not is_behind:
                    # What was acknowledged can wait; what comes in cannot.
                    is_behind = bool(os.nice(_NICER))
                pipe.send(_recorded(store, work) if isinstance(work[0], Frame) else _added(store, work))
            except SiteDbError as error:
                pipe.send(_Failed(True, str(error), error.remedy))
            except Exception as error:  # noqa: BLE001 - told to the parent, which knows whom it concerns
                pipe.send(_Failed(False, f"{type(error).__name__}: {error}", ""))


def _added(store: Store, texts: list[_Text]) -> bytes:
    # One at a time: thousands of parsed reports side by side are slow to make, and a burden to whoever looks for garbage.
    submissions = (Submission(orjson.loads(raw), raw, received_at) for raw, received_at in texts)
    return bytes(status == "new" for status in store.add(submissions))


def _recorded(store: Store, group: list[Frame]) -> bytes:
    """Store what frames hold; what the database has already, after a death in between, is not even unpacked further."""
    contents = [read for frame in group if (read := _read(frame))]
    known = known_reports(store, [report_id for each in contents for report_id in each.ids])
    new = [
        _Text(text, moment(each.received_at))
        for each in contents
        for report_id, text in zip(each.ids, each.texts, strict=True)
        if report_id not in known
    ]
    try:
        _added(store, new)
    except SiteDbError:
        raise
    except Exception as error:  # noqa: BLE001 - one report in which something is wrong is not to hold up the others
        LOG.error("these reports are stored one by one: %s", error)
        for text in new:
            _added_alone(store, text, Path(group[0].path).parent)
    return b""


def _read(frame: Frame) -> segments.Contents | None:
    """What a frame holds; None for a disk that gives back something else: then a copy stays for people to look at."""
    try:
        return segments.read(frame)
    except (segments.Damaged, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _GONE:
            raise
        LOG.error("%d acknowledged reports cannot be read any more: %s", frame.reports, error)
        segments.keep_damaged(frame.path)
        return None


def _added_alone(store: Store, text: _Text, folder: Path) -> None:
    """Store one report, or keep it beside the inbox: it was acknowledged, and is not to be lost with an error of ours."""
    try:
        _added(store, [text])
    except SiteDbError:
        raise
    except Exception as error:  # noqa: BLE001 - an error of ours costs this report its place in the database, not more
        path = folder / f"{orjson.loads(text.raw)['report_id']}{segments.ASIDE_SUFFIX}"
        LOG.error("a report cannot be stored, and is kept as %s: %s: %s", path, type(error).__name__, error)
        segments.write_durably(path, text.raw)
