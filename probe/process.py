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

from probe import kernel

OUTPUT_LIMIT_BYTES = 64 * 1024
# How often an ended child is looked for while its pipes are still open (a daemon that it left holds them).
WAIT_SLICE_S = 0.02
# Ours are the lowest free ones; what the caller left open above this is not ours.
DESCRIPTORS_CLOSED = 256
# What a killed process gets to die in before it is abandoned.
KILL_WAIT_S = 0.5
# What fork, exec and open say where a limit of processes, memory or files is reached.
EXHAUSTED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


class Outcome(NamedTuple):
    """How a program ended.

    ``state``: "exited" (``exit_code`` or ``signal`` is set), "timeout" (killed at the limit), "not_started" (``error``
    is the errno of exec or chdir). ``left_running``: it was killed and did not die: uninterruptible sleep.
    """

    state: str
    exit_code: Optional[int]
    signal: Optional[int]
    error: Optional[int]
    stdout: str
    stderr: str
    duration_s: float
    left_running: bool = False

    @property
    def succeeded(self) -> bool:
        """True when it ended by itself with exit code 0."""
        return self.state == "exited" and self.exit_code == 0


class _Pipes(NamedTuple):
    stdout: int
    stderr: int
    failure: int


def run(command: List[str], limit_s: float, environment: Mapping[str, str], folder: Optional[str] = None) -> Outcome:
    """Run a command in a session of its own, stdin from /dev/null; always returns within the limit and a second.

    ``command[0]`` is looked up on the environment's PATH when it has no slash. Output beyond 64 KiB a stream is dropped.
    """
    started = time.monotonic()
    try:
        reading, writing = _make_pipes()
        child = os.fork()
    except OSError as error:  # no process or descriptor left under the limits here
        return Outcome("not_started", None, None, error.errno, "", "", 0.0)
    if child == 0:
        _become(command, environment, folder, writing)
    for descriptor in writing:
        os.close(descriptor)
    outputs, status = _collect(child, reading, started + max(limit_s, 0.0))
    timed_out = status is None
    _kill_group(child)
    if timed_out:
        kill(child)  # it may not have got as far as its own session
        status = reap(child, KILL_WAIT_S)
    for descriptor in reading:
        os.close(descriptor)
    return _outcome(outputs, status, timed_out, time.monotonic() - started)


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


def _become(command: List[str], environment: Mapping[str, str], folder: Optional[str], pipes: _Pipes) -> None:
    """In the child: never returns."""
    try:
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _redirect(pipes)
        close_all_but(pipes.failure)
        if folder is not None:
            os.chdir(folder)
        os.execvpe(command[0], command, dict(environment))  # noqa: S606  this is the runner
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


def _collect(child: int, pipes: _Pipes, deadline: float) -> Tuple[Dict[int, bytes], Optional[int]]:
    """Read until the child has ended; returns the outputs by place (0 stdout, 1 stderr, 2 failure) and the wait status."""
    outputs = {0: b"", 1: b"", 2: b""}
    places = {descriptor: place for place, descriptor in enumerate(pipes)}
    poll = select.poll()
    for descriptor in pipes:
        poll.register(descriptor, select.POLLIN)
    pause_s = 0.0005
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return outputs, None
        for descriptor, _ in poll.poll(max(1, int(min(remaining, WAIT_SLICE_S) * 1000))) if places else ():
            if not _read_some(descriptor, outputs, places[descriptor]):
                poll.unregister(descriptor)
                del places[descriptor]
        if not places:  # both streams closed: it is about to end, or a daemon
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, WAIT_SLICE_S)
        status = reap(child, 0)
        if status is not None:
            for descriptor, place in places.items():
                while _read_some(descriptor, outputs, place):
                    pass
            return outputs, status


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
    """Process ids of all our descendants, from the parent ids in /proc; zombies are left out."""
    parents: Dict[int, int] = {}
    for name in os.listdir("/proc"):
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
