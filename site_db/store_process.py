"""A store in a process of its own: whoever takes reports keeps its processor time for taking them.

In one process the threads that take reports and the one that stores them would wait for each other's interpreter lock,
some milliseconds each time: measured, a tenth of the rate. The child gets reports as the texts that came, and ends when
its pipe does, that is with its parent, however that ended.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import orjson

from site_db.errors import DatabaseUnavailable, SiteDbError
from site_db.store import Store, Submission

LOG = logging.getLogger("site_db.collector")


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

    def add(self, submissions: Sequence[Submission]) -> list[str]:
        """As Store.add. Raises DatabaseUnavailable, also when the child died: whether it stored them nobody knows."""
        texts = [(item.raw, item.received_at) for item in submissions]
        with self._lock:
            try:
                answer = self._asked(texts)
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
        return ["new" if is_new else "known" for is_new in answer]

    def close(self) -> None:
        """End the child; what it was given is stored."""
        with self._lock:
            self._end()

    def _asked(self, texts: list[tuple[bytes, datetime]]) -> Any:  # noqa: ANN401 - bytes of booleans, or _Failed
        if self._pipe is None:
            self._start()
        assert self._pipe  # noqa: S101 - _start made it
        self._pipe.send(texts)
        return self._pipe.recv()

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-m", "site_db.store_process", str(theirs.fileno())]
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
        store: Store | None = None
        while True:
            texts = pipe.recv()
            try:
                store = store or Store.open(url)
                pipe.send(_added(store, texts))
            except SiteDbError as error:
                pipe.send(_Failed(True, str(error), error.remedy))
            except Exception as error:  # noqa: BLE001 - told to the parent, which knows whom it concerns
                pipe.send(_Failed(False, f"{type(error).__name__}: {error}", ""))


def _added(store: Store, texts: list[tuple[bytes, datetime]]) -> bytes:
    submissions = [Submission(orjson.loads(raw), raw, received_at) for raw, received_at in texts]
    return bytes(status == "new" for status in store.add(submissions))


if __name__ == "__main__":
    main(int(sys.argv[1]))
