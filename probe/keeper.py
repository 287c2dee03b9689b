"""The child that a glidein's run keeps beside it: it alone touches the glidein's folder before the run knows anything.

It holds the lock on the folder where runs remember things, reads the files there and glidein_config (all may lie on what
hangs), and starts the container that an earlier run found to be the glidein's. It is the first thing that a run starts
and imports next to nothing, so that the container runs while the rest of the probe is still being compiled.

It is no descendant of the run: what the engine kills at its end must not take the lock with it. It ends when the pipe
that the run holds is closed, so it never outlives the run, however that ended.
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all that happens here
    from typing import List, Optional, Tuple, Union

CONFIG_LIMIT_BYTES = 1 << 20
MEMORY_LIMIT_BYTES = 4 << 20
START_LIMIT_S = 20.0
OUTPUT_LIMIT_BYTES = 16384
# Words of a remembered command that differ from run to run.
FOLDER, NONCE = "\1folder", "\1nonce"
SIGKILL = 9


class Keeper:
    """The run's side. ``receive`` what the child sends, in the order ``lock``, ``config``, ``memory``, ``start``.

    Raises OSError where no process or pipe can be had.
    """

    def __init__(self, folder: str, config: str, wants_start: bool) -> None:
        self.folder = folder
        self._reading, writing = os.pipe()
        held, self._holding = os.pipe()
        self._buffer = b""
        middle = os.fork()
        if middle == 0:
            try:
                if os.fork() == 0:
                    _serve(folder, config, wants_start, writing, held, (self._reading, self._holding))
            finally:  # also where no further process can be had
                os._exit(0)
        os.close(writing)
        os.close(held)
        os.waitpid(middle, 0)

    def receive(self, name: str, limit_s: float) -> "Optional[Union[bytes, str]]":
        """The bytes sent under a name; a text that says why there are none; None when no answer came within the limit."""
        import select

        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        until = time.monotonic() + limit_s
        while True:
            found = self._take(name)
            if found is not None:
                return found
            left_s = until - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                return None
            block = os.read(self._reading, 1 << 20)
            if not block:
                return None
            self._buffer += block

    def _take(self, name: str) -> "Optional[Union[bytes, str]]":
        """The next message, if it is whole; those before the one that is asked for are dropped."""
        while True:
            head, line_end, rest = self._buffer.partition(b"\n")
            if not line_end:
                return None
            kind, form, size = head.decode().split()
            if len(rest) < int(size):
                return None
            content, self._buffer = rest[: int(size)], rest[int(size) :]
            if kind == name:
                return content if form == "bytes" else content.decode("utf-8", "replace")

    def release(self) -> None:
        """Let the child end, and with it the lock and whatever container it still runs."""
        os.close(self._holding)
        os.close(self._reading)


def _serve(folder: str, config: str, wants_start: bool, writing: int, held: int, foreign: "Tuple[int, ...]") -> None:
    """In the child: never returns."""
    try:
        os.setsid()
        for descriptor in foreign:
            os.close(descriptor)
        # A child that hangs must not hold the glidein's log or the startd's pipe.
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        lock, _descriptor = _lock(folder)
        _send(writing, "lock", lock)
        start = _Start(folder) if wants_start and lock == b"held" else None
        _send_file(writing, "config", config, CONFIG_LIMIT_BYTES)
        _send_file(writing, "memory", os.path.join(folder, "memory.json"), MEMORY_LIMIT_BYTES)
        if start is not None:
            _send(writing, "start", start.wait(held))
        os.read(held, 1)
        if start is not None:  # the run may have looked at everything, and have started others
            start.remove_traces()
    finally:
        os._exit(0)


def _send(descriptor: int, name: str, content: bytes, form: str = "bytes") -> None:
    data = "{} {} {}\n".format(name, form, len(content)).encode() + content
    while data:
        data = data[os.write(descriptor, data) :]


def _send_file(descriptor: int, name: str, path: str, limit_bytes: int) -> None:
    try:
        content = _read(path, limit_bytes)
    except OSError as error:
        _send(descriptor, name, os.strerror(error.errno or 0).encode(), "error")
    else:
        _send(descriptor, name, content)


def _read(path: str, limit_bytes: int) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(limit_bytes)


def _lock(folder: str) -> "Tuple[bytes, Optional[int]]":
    """(b"held" | b"busy" | b"none", descriptor): none where there is no folder of our own to be had.

    The kernel drops the lock with its holder, so there are no stale ones.
    """
    import fcntl

    try:
        if not own_folder(folder):
            return b"none", None
        descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return b"busy", None
    except OSError:  # no room, read-only, or a file system without locks
        return b"none", None
    return b"held", descriptor


def own_folder(folder: str) -> bool:
    """Make the folder, or see that what is there is ours alone; raises OSError."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    return is_own(folder)


def is_own(folder: str) -> bool:
    """Whether a folder is ours, and open to nobody else; raises OSError."""
    found = os.lstat(folder)
    return found.st_mode & 0o170077 == 0o040000 and found.st_uid == os.geteuid()


class _Start:
    """The remembered container start, if there is one, and none of an earlier run still hangs."""

    def __init__(self, folder: str) -> None:
        self._mark = os.path.join(folder, "started")
        self.child = 0
        self._traces: "List[bytes]" = []
        self._nonce = os.urandom(16).hex()
        try:
            if _still_there(self._mark):
                return
            words = _read(os.path.join(folder, "launch"), 65536).decode().split("\0")
            replaced = {FOLDER: os.getcwd() + ":/srv", NONCE: self._nonce}
            self._began = time.monotonic()
            self._out, writing = os.pipe()
            self.child = os.fork()
        except (OSError, ValueError):  # nothing remembered, or garbage, or no process to be had
            return
        if self.child == 0:
            _become([replaced.get(word, word) for word in words], writing)
        os.close(writing)
        _note(self._mark, self.child)

    def wait(self, held: int) -> bytes:
        """``STATUS SECONDS NONCE`` and the output; STATUS is the wait status, or "none" or "hung"."""
        if not self.child:
            return b"none 0 -\n"
        output, status = _collect(self.child, self._out, held, self._began + START_LIMIT_S)
        if status is not None:
            _remove(self._mark)
        traces, _, output = output.partition(b"\n")
        self._traces = traces.split(b"\0")
        self.remove_traces()
        text = "hung" if status is None else str(status)
        return "{} {:.4f} {}\n".format(text, time.monotonic() - self._began, self._nonce).encode() + output

    def remove_traces(self) -> None:
        """Remove the folders in the home that the start was the first to make, if nobody has put anything into them."""
        for path in self._traces:
            try:
                os.rmdir(path)
            except OSError:
                pass


def _become(command: "List[str]", writing: int) -> None:
    """In the container's child: never returns."""
    try:
        os.setsid()
        os.dup2(writing, 1)
        # What Singularity will make there; looked at here, since a home may hang.
        traces = [os.environ.get("HOME", "") + name for name in ("/.apptainer", "/.singularity")]
        os.write(1, os.fsencode("\0".join(path for path in traces if not os.path.lexists(path)) + "\n"))
        # Its stderr is for the full look, which comes where this start fails.
        os.closerange(3, 256)
        environment = dict(os.environ)
        while not command[0].startswith("/"):  # what memory.launch_words put before it
            name, _, value = command.pop(0).partition("=")
            environment.pop(name, None)
            if value:
                environment[name] = value
        os.execve(command[0], command, environment)  # noqa: S606  the command that an earlier run put together
    except (OSError, ValueError, IndexError):  # gone meanwhile, or garbage
        pass
    finally:
        os._exit(127)


def _collect(child: int, out: int, held: int, deadline: float) -> "Tuple[bytes, Optional[int]]":
    """(output, wait status): the status is None for one that was killed at the deadline, or because the run has ended."""
    import select

    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(held, select.POLLIN)
    output, opened, ended, status = b"", True, 0, 0
    while not ended or opened:
        if not ended:
            ended, status = os.waitpid(child, os.WNOHANG)
        if not opened:  # it is about to end
            time.sleep(0.0005)
        ready = dict(poll.poll(50 if opened and not ended else 0))
        if out in ready:
            block = os.read(out, 65536)
            output += block[: OUTPUT_LIMIT_BYTES - len(output)]
            if not block:
                poll.unregister(out)
                opened = False
        elif ended:  # a helper that it left holds the pipe
            break
        if not ended and (held in ready or time.monotonic() > deadline):
            try:
                os.killpg(child, SIGKILL)
            except OSError:  # it has not got as far as its own session, or has just ended
                os.kill(child, SIGKILL)
            return output, None
    return output, status


def _note(path: str, child: int) -> None:
    """Leave a mark of a start, so that one that can't be killed is not joined by another, whatever becomes of us."""
    try:
        with open(path, "w") as stream:
            stream.write("{} {}".format(child, _birth(child)))
    except OSError:  # no room: nothing else is lost
        pass


def _still_there(path: str) -> bool:
    try:
        pid, birth = _read(path, 100).decode().split()
    except (OSError, ValueError):
        return False
    return pid.isdigit() and _birth(int(pid)) == birth


def _birth(pid: int) -> str:
    """When a process was started, in the kernel's ticks; "" when it is gone."""
    try:
        return _read("/proc/{}/stat".format(pid), 4096).rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
