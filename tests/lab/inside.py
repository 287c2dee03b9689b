"""Makes one node inside the namespaces that `laboratory` gave, runs the factory's command and the probe, and tells.

A program: reads a Request as JSON on standard input, prints {"factory": ended, "probe": ended, "left": left} on
standard output; a lab that cannot be made ends with an exit code and a message. It is process 1 of its pid namespace,
so all that was started is seen in /proc and ends with it.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab.condition import GLIDEIN, PRELUDE, Mounted, combined
from tests.lab.conditions import CONDITIONS
from tests.lab.cvmfs_standin import StandIn

TOOLS = Path(__file__).parent
WRITABLE = ("/tmp", "/var/tmp", "/dev/shm", "/root", "/home", "/scratch")  # private: see private_root.sh
BINARY = Path("/lab/bin/apptainer")  # a link, the first on PATH
OUTPUT = Path("/reports/report.json")  # for a probe that cannot write to its standard output
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# A glidein is a shell that starts programs as its children. Apptainer tells the difference: below another container, an
# unpacked one finds its own session folder only as the child of a process that was started there (1.4.5).
FROM_A_SHELL = ("/bin/sh", "-c", '"$@"; exit $?', "glidein")
DYING_S = 1.0  # what killed processes get to vanish in
PROBE_GRACE_S = 6.0  # after its deadline the probe is taken for hung


@dataclass(frozen=True)
class Request:
    """What to run: names of CONDITIONS, and the places of the parts."""

    conditions: list[str]
    apptainer: str
    configuration: str
    image: str
    probe: str
    new_root: str
    keep: list[str]
    probe_runs: int
    images: list[str]  # to be tried by the probe, besides those that the conditions name


class Ended(NamedTuple):
    """How a command ended. Outcome: "exited" or "timeout"; the exit code is negative for a signal."""

    outcome: str
    exit_code: int | None
    stdout: str
    stderr: str
    duration_s: float


class Node:
    """One node, made and in use."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.condition = combined(CONDITIONS[name] for name in request.conditions)
        self.user = _user(self.condition.user)
        self.home = pwd.getpwnam(GLIDEIN).pw_dir if self.user.pw_uid else "/root"
        self.standins: list[tuple[Mounted, StandIn]] = []

    def environment(self) -> dict[str, str]:
        """The glidein's, after the conditions' changes."""
        plain = {
            "PATH": f"{BINARY.parent}:{SYSTEM_PATH}",
            "HOME": self.home,
            "USER": self.user.pw_name,
            "LOGNAME": self.user.pw_name,
            "LANG": "C.UTF-8",
        }
        return {name: value for name, value in {**plain, **self.condition.environment}.items() if value is not None}

    def make(self, stack: contextlib.ExitStack) -> None:
        """The private root, the mounts, what the conditions prepare."""
        command = [str(TOOLS / "private_root.sh"), self.request.new_root, GLIDEIN, *self.request.keep]
        subprocess.run(command, check=True, stdout=sys.stderr)
        os.chdir("/")
        BINARY.symlink_to(self.request.apptainer)
        private = Path("/lab/apptainer.conf")
        shutil.copy(self.request.configuration, private)
        subprocess.run(["mount", "--bind", private, self.request.configuration], check=True)
        for mounted in self.condition.mounts:
            self.standins.append((mounted, stack.enter_context(_standin(mounted))))
        for name in ("factory", "probe"):
            folder = Path("/scratch", name)
            folder.mkdir()
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        subprocess.run(
            ["sh", "-c", PRELUDE + self.condition.prepare], check=True, stdout=sys.stderr, env=self._names()
        )

    def _names(self) -> dict[str, str]:
        return {
            **os.environ,
            "APPTAINER": self.request.apptainer,
            "CONFIGURATION": self.request.configuration,
            "IMAGE": self.request.image,
            "PROBE": self.request.probe,
            "GLIDEIN": GLIDEIN,
            "GLIDEIN_HOME": pwd.getpwnam(GLIDEIN).pw_dir,
            "LAB_PYTHON": sys.executable,
            "LAB_TOOLS": str(TOOLS),
        }

    def enter(self, name: str) -> None:
        """Goes to a command's folder; from now on the mounts have their faults, and whatever hung before goes on."""
        for mounted, standin in self.standins:
            if mounted.faults:
                standin.heal(_repository(mounted))
        os.chdir(f"{self.condition.folder}/{name}")
        for mounted, standin in self.standins:
            _break(mounted, standin)

    def run(self, command: Iterable[str], limit_s: float) -> Ended:
        """Runs a command as the glidein, in the folder that was entered."""
        condition = self.condition
        become = ["setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups", "--"]
        before_user = [word.format(**self._names()) for word in condition.before_user]
        return _run([*before_user, *become, *condition.wrapper, *FROM_A_SHELL, *command], self.environment(), limit_s)

    def factory_command(self) -> list[str]:
        """GlideinWMS's own test of a container (singularity_lib.sh), with an image that is fine."""
        binds = [path for path in ("/cvmfs", "/etc/hosts", "/etc/localtime") if Path(path).exists()]
        options = self.condition.factory_arguments
        folder = f"{self.condition.folder}/factory"
        return [
            *self.condition.factory_binary,
            *("exec", "--home", f"{folder}:/srv", "--pwd", "/srv", "--ipc", "--contain"),
            *(("--pid",) if options is None else options),
            *("--bind", ",".join(binds), self.request.image, "cat", "/proc/self/uid_map"),
        ]

    def probe_command(self) -> list[str]:
        """The built single file."""
        condition = self.condition
        command = [self.request.probe, "run", "--format", "json", "--deadline", str(condition.deadline_s)]
        images = [word for image in self.request.images for word in ("--image", image)]
        return [*condition.probe_wrapper, *command, *condition.probe_arguments, *images]


def _user(name: str) -> pwd.struct_passwd:
    if not name.isdigit():
        return pwd.getpwnam(name)
    return pwd.struct_passwd((name, "x", int(name), int(name), "", pwd.getpwnam(GLIDEIN).pw_dir, "/bin/sh"))


def _repository(mounted: Mounted) -> str:
    return Path(mounted.point).name


def _standin(mounted: Mounted) -> StandIn:
    """Serves the mount's files as one repository, as the real client does."""
    tree = Path(tempfile.mkdtemp(dir="/lab"))
    for name, content in mounted.files.items():
        file = tree / _repository(mounted) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
    Path(mounted.point).mkdir(parents=True)
    return StandIn(Path(mounted.point), tree, fqrn=_repository(mounted))


def _break(mounted: Mounted, standin: StandIn) -> None:
    if mounted.dies:
        standin.die()  # a second time does nothing
    elif mounted.faults:
        standin.set(_repository(mounted), *mounted.faults)


def _run(command: list[str], environment: dict[str, str], limit_s: float) -> Ended:
    program = shutil.which(command[0])  # the lab's PATH, not the node's
    assert program, f"the lab needs {command[0]}"
    with tempfile.TemporaryFile(dir="/lab") as stdout, tempfile.TemporaryFile(dir="/lab") as stderr:
        started = time.monotonic()
        child = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
        outcome = "exited"
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            outcome = "timeout"
        duration_s = time.monotonic() - started
        texts = [(stream.seek(0), stream.read().decode(errors="replace"))[1] for stream in (stdout, stderr)]
        return Ended(outcome, child.returncode, *texts, round(duration_s, 3))


def processes() -> dict[int, str]:
    """All processes but zombies: "STATE command line" by pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # gone meanwhile
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if state not in "ZX":
                    found[int(entry.name)] = f"{state} {words}"
    return found


def await_end(pids: Iterable[int]) -> dict[int, str]:
    """Waits a little for processes to vanish; those that did not."""
    waited_for = set(pids)
    until = time.monotonic() + DYING_S
    while True:
        left = {pid: text for pid, text in processes().items() if pid in waited_for}
        if not left or time.monotonic() > until:
            return left
        time.sleep(0.02)


def kill(pids: Iterable[int]) -> None:
    """SIGKILL, whoever is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def files(avoid: Iterable[str]) -> set[str]:
    """All paths in the private writable folders; mounts below them are left out, and `avoid` is not even looked at."""
    closed = set(avoid)
    found = set()
    for top in WRITABLE:
        if top in closed:
            continue
        device = os.lstat(top).st_dev
        for folder, folders, names in os.walk(top):
            found |= {f"{folder}/{name}" for name in folders + names}
            paths = [(name, f"{folder}/{name}") for name in folders]
            folders[:] = [name for name, path in paths if path not in closed and os.lstat(path).st_dev == device]
    return found


def remove(paths: Iterable[str]) -> None:
    """Undoes what a command made, deepest first."""
    for path in map(Path, sorted(paths, reverse=True)):
        with contextlib.suppress(OSError):  # read-only by now: then the next command meets it, as on a real node
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def mount_points() -> set[str]:
    """The mounts of this namespace: "DEVICE POINT"."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {" ".join(line.split()[2:5:2]) for line in lines}


def observe(node: Node) -> dict[str, Any]:
    """The factory's command, then the probe in a clean place, and what the probe left."""
    avoid = [mounted.point for mounted in node.condition.mounts]
    at_first, clean = set(processes()), files(avoid)
    node.enter("factory")
    factory = node.run(node.factory_command(), node.condition.factory_limit_s)
    kill(set(processes()) - at_first)
    node.enter("probe")  # what hung ends here: it was killed
    await_end(set(processes()) - at_first)
    remove(files(avoid) - clean)
    known, clean, mounts = set(processes()), files(avoid), mount_points()
    for _ in range(node.request.probe_runs):
        probe = node.run(node.probe_command(), node.condition.deadline_s + PROBE_GRACE_S)
    left = {
        "processes": sorted(await_end(set(processes()) - known).values()),
        "files": sorted(files(avoid) - clean),
        "mounts": sorted(mount_points() - mounts),
    }
    return {"factory": factory._asdict(), "probe": probe._asdict() | {"report": _report(probe)}, "left": left}


def _report(probe: Ended) -> Any:  # noqa: ANN401  JSON
    for text in (probe.stdout, OUTPUT.read_text() if OUTPUT.exists() else ""):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return None


@contextlib.contextmanager
def made(request: Request) -> Iterator[Node]:
    """The node; its mounts, and with them whatever hangs, end with the block."""
    with contextlib.ExitStack() as stack:
        node = Node(request)
        node.make(stack)
        yield node


def main() -> None:
    """The program."""
    # The commands inherit no descriptor of ours, but they do inherit ignored signals.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with made(Request(**json.load(sys.stdin))) as node:
        answer = observe(node)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
