"""Running foreign programs within a bound, whatever they do.

``subprocess`` is not used: ``Popen`` waits for exec to succeed, so a program on a hung mount blocks the caller for
ever, and on Python 3.6 ``run(timeout=)`` does not bound the second wait when a grandchild holds the pipe.
Here the parent never blocks: it forks, polls pipes, and abandons what a SIGKILL does not end.
"""

import errno
import os
import select
import signal
import time
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from probe import kernel, stuck

OUTPUT_LIMIT_BYTES = 64 * 1024
# How often an ended child is looked for while its pipes are still open (a daemon that it left holds them).
WAIT_SLICE_S = 0.02
CLOSED_SLICE_S = 0.002
# Ours are the lowest free ones; what the caller left open above this is not ours.
DESCRIPTORS_CLOSED = 256
# What a killed process gets to die in before it is abandoned.
KILL_WAIT_S = 0.5
# What fork, exec and open say where a limit of processes, memory or files is reached.
EXHAUSTED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class Outcome(NamedTuple):
    """How a program ended.

    ``state``: "exited" (``exit_code`` or ``signal`` is set), "timeout" (killed at the limit), "not_started" (``error``
    is the errno of exec or chdir). ``left_running``: it was killed and did not die: uninterruptible sleep. ``defunct``: how
    many of its processes it left ended and unwaited for.
    """

    state: str
    exit_code: Optional[int]
    signal: Optional[int]
    error: Optional[int]
    stdout: str
    stderr: str
    duration_s: float
    left_running: bool = False
    defunct: int = 0

    @property
    def succeeded(self) -> bool:
        """True when it ended by itself with exit code 0."""
        return self.state == "exited" and self.exit_code == 0


class Program(NamedTuple):
    """A program to run. ``command[0]`` is looked up on the environment's PATH when it has no slash.

    ``name`` is what its process is called until the program is there (see stuck).
    """

    command: List[str]
    environment: Mapping[str, str]
    name: Optional[str] = None
    folder: Optional[str] = None


class _Pipes(NamedTuple):
    stdout: int
    stderr: int
    failure: int


class _Running:
    """A program at work; raises OSError where no process or descriptor is left under the limits here."""

    def __init__(self, program: Program, limit_s: float) -> None:
        self.began = time.monotonic()
        self.ends_at = self.began + max(limit_s, 0.0)
        self.reading, writing = _make_pipes()
        try:
            self.child = os.fork()
        except OSError:
            _close(self.reading)
            _close(writing)
            raise
        if self.child == 0:
            _become(program, writing)
        _close(writing)
        self.status: Optional[int] = None
        self.outputs = {0: b"", 1: b"", 2: b""}  # by place: stdout, stderr, failure
        self.places = {descriptor: place for place, descriptor in enumerate(self.reading)}  # those that are open

    def read(self, descriptor: int) -> None:
        """Take what a descriptor has, or that it has come to its end."""
        if not _read_some(descriptor, self.outputs, self.places[descriptor]):
            del self.places[descriptor]

    def has_ended(self) -> bool:
        """Whether the child is gone, with what it still said."""
        self.status = reap(self.child, 0)
        if self.status is None:
            return False
        for descriptor, place in self.places.items():
            while _read_some(descriptor, self.outputs, place):
                pass
        return True


def run(command: List[str], limit_s: float, environment: Mapping[str, str], folder: Optional[str] = None) -> Outcome:
    """Run one program; see ``run_each``."""
    return run_each([Program(command, environment, folder=folder)], limit_s, 1)[0]


def run_each(programs: List[Program], limit_s: float, at_once: int) -> List[Outcome]:
    """Run programs side by side, each in a session of its own, stdin from /dev/null; always returns.

    Each has the limit from its own start, and a moment to die in. Output beyond 64 KiB a stream is dropped.
    """
    waiting = list(enumerate(programs))
    running: Dict[int, _Running] = {}
    outcomes: Dict[int, Outcome] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            number, program = waiting.pop(0)
            try:
                running[number] = _Running(program, limit_s)
            except OSError as error:
                outcomes[number] = Outcome("not_started", None, None, error.errno, "", "", 0.0)
        _listen(list(running.values()))
        for number, one in list(running.items()):
            if one.has_ended() or time.monotonic() >= one.ends_at:
                outcomes[number] = _settle(running.pop(number))
    return [outcomes[number] for number in range(len(programs))]


def _listen(running: List[_Running]) -> None:
    """Read what programs say; returns when one has said something, or when it is time to look who has ended."""
    poll = select.poll()
    heard = {descriptor: one for one in running for descriptor in one.places}
    for descriptor in heard:
        poll.register(descriptor, select.POLLIN)
    # One with all its streams closed is about to end, or a daemon.
    slices = [WAIT_SLICE_S if one.places else CLOSED_SLICE_S for one in running]
    left = [one.ends_at - time.monotonic() for one in running]
    for descriptor, _ in poll.poll(max(0, int(min(slices + left, default=0) * 1000))):
        heard[descriptor].read(descriptor)


def _settle(one: _Running) -> Outcome:
    timed_out = one.status is None
    defunct = 0 if timed_out else _reap_group(one.child)
    _kill_group(one.child)
    if timed_out:
        kill(one.child)  # it may not have got as far as its own session
        one.status = reap(one.child, KILL_WAIT_S)
    _close(one.reading)
    return _outcome(one.outputs, one.status, timed_out, time.monotonic() - one.began)._replace(defunct=defunct)


def _close(pipes: _Pipes) -> None:
    for descriptor in pipes:
        os.close(descriptor)


def _make_pipes() -> Tuple[_Pipes, _Pipes]:
    pairs = [
        (_above_standard(read_end), _above_standard(write_end)) for read_end, write_end in [os.pipe() for _ in range(3)]
    ]
    for read_end, _ in pairs:
        os.set_blocking(read_end, False)
    return _Pipes(*[pair[0] for pair in pairs]), _Pipes(*[pair[1] for pair in pairs])


def _above_standard(descriptor: int) -> int:
    """The descriptor, moved above 2 where the caller's standard streams were closed and it took such a place."""
    if descriptor > 2:
        return descriptor
    import fcntl

    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _become(program: Program, pipes: _Pipes) -> None:
    """In the child: never returns."""
    try:
        if program.name is not None:
            stuck.set_name(program.name)
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _redirect(pipes)
        close_all_but(pipes.failure)
        if program.folder is not None:
            os.chdir(program.folder)
        os.execvpe(program.command[0], program.command, dict(program.environment))  # noqa: S606  this is the runner
    except OSError as error:
        os.write(pipes.failure, str(error.errno).encode())
    except ValueError:  # a NUL in an argument or in the environment
        os.write(pipes.failure, str(errno.EINVAL).encode())
    finally:
        os._exit(127)


def _redirect(pipes: _Pipes) -> None:
    """Give the child its three standard streams; stdin is never ours to pass on (a glidein's is its list of scripts)."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.set_inheritable(0, True)  # where stdin was closed, null is 0 already and dup2 does nothing
    os.dup2(pipes.stdout, 1)
    os.dup2(pipes.stderr, 2)


def close_standard_streams() -> None:
    """Put /dev/null in their place: a child that cannot be killed would keep the readers of our output waiting."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)


def close_all_but(kept: int) -> None:
    """Close inherited descriptors: close-on-exec does nothing for a child that hangs before or inside exec."""
    os.closerange(3, kept)
    os.closerange(max(3, kept + 1), DESCRIPTORS_CLOSED)


def _read_some(descriptor: int, outputs: Dict[int, bytes], place: int) -> bool:
    """Read what is there; False at the end of the stream or when nothing is there."""
    try:
        block = os.read(descriptor, 65536)
    except BlockingIOError:
        return False
    outputs[place] += block[: OUTPUT_LIMIT_BYTES - len(outputs[place])]
    return bool(block)


def _kill_group(leader: int) -> None:
    """End what is left of the session: a starter's helpers outlive it at times."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (
        ProcessLookupError,
        PermissionError,
    ):  # nothing left; or set-uid processes only, which end with their parent
        pass


def _reap_group(leader: int) -> int:
    """How many of a program's processes ended without being waited for and so came to us: where nobody adopts them they pile
    up (field evidence 35)."""
    count = 0
    try:
        while os.waitpid(-leader, os.WNOHANG)[0]:
            count += 1
    except ChildProcessError:
        pass
    return count


def reap(child: int, patience_s: float) -> Optional[int]:
    """The wait status of a child that has ended, or None when it has not within the patience."""
    until = time.monotonic() + patience_s
    while True:
        try:
            ended, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:
            return 0
        if ended:
            return status
        if time.monotonic() >= until:
            return None
        time.sleep(0.005)


def _outcome(outputs: Dict[int, bytes], status: Optional[int], timed_out: bool, duration_s: float) -> Outcome:
    stdout, stderr = (outputs[place].decode("utf-8", "replace") for place in (0, 1))
    failure = outputs[2].decode()
    exit_code = os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None
    ended_by = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
    if failure:
        return Outcome("not_started", None, None, int(failure), stdout, stderr, duration_s)
    if timed_out:
        return Outcome("timeout", None, None, None, stdout, stderr, duration_s, left_running=status is None)
    return Outcome("exited", exit_code, ended_by, None, stdout, stderr, duration_s)


def descendants() -> List[int]:
    """Process ids of all our descendants, from the parent ids in /proc; zombies are left out. None without a /proc."""
    parents: Dict[int, int] = {}
    try:
        names = os.listdir("/proc")
    except OSError:  # a bare chroot
        return []
    for name in names:
        if name.isdecimal():
            state, parent = state_and_parent(int(name))
            if state not in ("Z", "X", ""):
                parents[int(name)] = parent
    found = set()  # type: ignore[var-annotated]  # the annotation comment of 3.6 does not take set[int]
    grown = True
    while grown:
        fresh = {pid for pid, parent in parents.items() if parent in found or parent == os.getpid()} - found
        grown = bool(fresh)
        found |= fresh
    return sorted(found)


def state_and_parent(pid: int) -> Tuple[str, int]:
    """State letter and parent's id from /proc/PID/stat; ("", 0) when the process is gone."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return "", 0
    return fields[0].decode(), int(fields[1])


def kill_descendants(patience_s: float = KILL_WAIT_S) -> List[int]:
    """SIGKILL everything that descends from us and wait for it a little; returns those that did not die."""
    until = time.monotonic() + patience_s
    while _reap_ended():
        left = descendants()
        for pid in left:
            kill(pid)
        if not left or time.monotonic() >= until:
            return left
        time.sleep(0.005)
    return []


def kill(pid: int) -> None:
    """SIGKILL one process, if it is still there and ours."""
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # gone meanwhile; or a set-uid process
        pass


def _reap_ended() -> bool:
    """Collect children that ended; False when we have none at all, the common case, known without reading /proc."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
