"""One process that checks reports, seen from the collector: its life, its socket, and the segments that it writes to."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
from typing import BinaryIO

from reports import messages
from reports.gate_child import Done, Work
from reports.settings import Settings
from site_db.errors import DatabaseUnavailable
from site_db.inbox import Inbox

LOG = logging.getLogger("site_db.collector")
# A disk or a database that takes longer does not answer: those who wait are told so.
ANSWER_LIMIT_S = 60.0
ENDING_S, _KILLED_S = 20.0, 0.5
# Not -m: what is pickled there has to be of the module of this name here.
_CHILD = "import sys; from reports.gate_child import main; main(int(sys.argv[1]))"


class Child:
    """Started when it is needed, and anew when it died. For one thread at a time."""

    def __init__(self, inbox: Inbox, settings: Settings, segment_bytes: int, url: str) -> None:
        self._inbox = inbox
        self._given = (inbox.folder, settings, segment_bytes, url)  # to its Checker
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._answers: BinaryIO | None = None
        self._segment: str | None = None
        self._left: list[str] = []  # segments that it has ended

    @property
    def pid(self) -> int | None:
        """Its process id, None where it does not run."""
        return self._process.pid if self._process else None

    def ask(self, work: Work) -> Done:
        """Have a batch checked, and wait for it. Raises DatabaseUnavailable."""
        try:
            if self._socket is None:
                self._socket = self._started()
                self._answers = self._socket.makefile("rb")
            assert self._answers  # noqa: S101 - made with the socket
            self._socket.sendall(messages.packed(work))
            done: Done | str = messages.read(self._answers)
        except (OSError, *messages.UNREADABLE) as error:  # it does not answer, died, or answers what is none
            self.end()
            raise self.ended(error) from error
        if isinstance(done, str):
            raise not_written(done)
        self.writes_to(done.segment)
        return done

    def start_anew(self) -> socket.socket:
        """End what runs, start another, and give its socket to who asks it from now on. Raises OSError."""
        self.end(waits_s=0.0)
        return self._started()

    def ended(self, why: Exception) -> DatabaseUnavailable:
        """What to say to those who wait when it died."""
        LOG.error("a process that checks reports ended, another is started: %s: %s", type(why).__name__, why)
        return DatabaseUnavailable("A process that checks reports ended.", "It is started anew.")

    def writes_to(self, segment: str | None) -> None:
        """Note the segment of an answer, before what it tells of is taken."""
        if segment != self._segment:
            self._left += [self._segment] if self._segment else []
            self._segment = segment
            if segment:
                self._inbox.use(segment)

    def let_go(self) -> None:
        """Release the segments that it has ended; what they hold was taken."""
        while self._left:
            self._inbox.release(self._left.pop())

    def end(self, waits_s: float | None = None) -> None:
        """End it with its socket: what it keeps was taken, or is nobody's: not acknowledged. One that does not end in this
        time is killed."""
        self.let_go()
        if self._answers:
            self._answers.close()
        if self._socket:
            self._socket.close()
        if self._process:
            _end(self._process, ENDING_S if waits_s is None else waits_s)
        if self._segment:
            self._inbox.release(self._segment)
        self._process = self._socket = self._answers = self._segment = None

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _CHILD, str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
                )
            ours.settimeout(ANSWER_LIMIT_S)
            # Over the socket: the database's URL may hold a password, and everybody sees arguments.
            ours.sendall(messages.packed(self._given))
        except OSError:
            ours.close()
            raise
        return ours


def _end(process: "subprocess.Popen[bytes]", waits_s: float) -> None:
    try:
        process.wait(waits_s)
    except subprocess.TimeoutExpired:
        process.kill()
        # One in uninterruptible sleep ends when its disk answers, and is waited for then by whoever starts the next process.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED_S)


def not_written(words: str) -> DatabaseUnavailable:
    """What to say to those who wait where a child could not write."""
    return DatabaseUnavailable(words, "Make room, or mend the disk.")
