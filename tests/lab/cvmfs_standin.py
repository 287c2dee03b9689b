"""A stand-in for CVMFS: a FUSE file system with CVMFS's extended attributes that fails on demand.

It serves a folder of repositories, either all of them under one mount or, as the real client does, one repository as
the whole mount. Faults are switched while it runs, per repository and below a path. As a library:

    with StandIn(Path("/cvmfs"), tree) as cvmfs:
        cvmfs.set("oasis.opensciencegrid.org", Fault("hang", below="/images"))

As a program, with orders by hand:

    cvmfs_standin.py /cvmfs --tree TREE --control @lab &
    cvmfs_standin.py --tell @lab '{"do": "set", "repository": "R", "faults": [{"behaviour": "eio"}]}'

What the real client does was seen on client 2.12.0; where the stand-in differs, it says so.
"""

import argparse
import contextlib
import ctypes
import errno
import hashlib
import json
import os
import secrets
import selectors
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

ENTRY = frozenset({"getattr", "readlink"})  # answered from the parent's catalog: a folder's own is not needed
LISTING = frozenset({"opendir", "readdir"})
CONTENT = frozenset({"open", "read"})
ATTRIBUTES = frozenset({"getxattr", "listxattr"})
EVERYTHING = ENTRY | LISTING | CONTENT | ATTRIBUTES | {"statfs"}


class Behaviour(NamedTuple):
    """What a faulty repository does: to which calls, with which error, whether it waits first, spares root's stat, and
    what it makes of a file's bytes."""

    calls: frozenset[str]
    error: int | None
    waits: bool = False
    spares_root: bool = False
    spoils: Callable[[bytes], bytes] | None = None


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _others(data: bytes) -> bytes:
    return bytes(byte ^ 1 for byte in data)


# "hang" answers EIO in the end, when the fault says after how long: the real client does after 22 to 41 s.
# "eio" leaves the attributes alone: the real client answers them from memory, and does not count failed catalogs.
# "eacces" is a repository for members only: the real client refuses stat of the root as well.
BEHAVIOURS = {
    "hang": Behaviour(EVERYTHING, errno.EIO, waits=True),
    "slow": Behaviour(EVERYTHING, None, waits=True),
    "eio_data": Behaviour(CONTENT, errno.EIO),
    "eio": Behaviour(EVERYTHING - ATTRIBUTES, errno.EIO, spares_root=True),
    "enotconn": Behaviour(EVERYTHING, errno.ENOTCONN),
    "eacces": Behaviour(EVERYTHING, errno.EACCES),
    # A local cache that was damaged: the real client gives less than there should be, or other bytes, and no error.
    "truncated": Behaviour(frozenset({"read"}), None, spoils=_half),
    "overwritten": Behaviour(frozenset({"read"}), None, spoils=_others),
}


@dataclass(frozen=True)
class Fault:
    """A behaviour of a repository at and below a path of it; below a subfolder, stat of that folder itself is fine.

    `seconds` is the length of each "slow" call, and the time until "hang" becomes EIO; without it, "hang" ends only
    when the fault is lifted or the server dies.
    """

    behaviour: str
    below: str = "/"
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.behaviour not in BEHAVIOURS:
            raise ValueError(f"no behaviour {self.behaviour!r}; there are {', '.join(BEHAVIOURS)}")
        if self.behaviour == "slow" and self.seconds is None:
            raise ValueError("behaviour 'slow' needs seconds")

    def strikes(self, call: str, path: str) -> bool:
        """Whether this call on this path of the repository suffers from the fault."""
        behaviour = BEHAVIOURS[self.behaviour]
        if call not in behaviour.calls:
            return False
        if path == self.below and call in ENTRY:
            return path == "/" and not behaviour.spares_root
        return path == self.below or path.startswith(self.below.rstrip("/") + "/")


class Repository:
    """One repository's faults and attributes, shared by the threads that serve it."""

    def __init__(self, name: str, changed: threading.Condition) -> None:
        self.name = name
        self.faults: tuple[Fault, ...] = ()
        self.attributes: dict[str, str] = {}  # set by the test, before the ones below
        self.counts: Counter[str] = Counter()
        self._changed = changed
        self._born = time.time()

    def suffer(self, call: str, path: str) -> None:
        """Waits, raises OSError or returns, as the faults say. A wait ends at once when its fault is lifted."""
        for fault in self.faults:
            if not fault.strikes(call, path):
                continue
            behaviour = BEHAVIOURS[fault.behaviour]
            if behaviour.waits and self._lifted(fault):
                continue
            if behaviour.error:
                if call == "open":  # the client counts failed opens of files, nothing else
                    self.counts["nioerr"] += 1
                    self.counts["timestamp_last_ioerr"] = int(time.time())
                raise OSError(behaviour.error, os.strerror(behaviour.error))

    def spoil(self, path: str, data: bytes) -> bytes:
        """A file's bytes as the faults leave them."""
        for fault in self.faults:
            spoils = BEHAVIOURS[fault.behaviour].spoils
            if spoils and fault.strikes("read", path):
                data = spoils(data)
        return data

    def _lifted(self, fault: Fault) -> bool:
        with self._changed:
            self.counts["waiting"] += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: fault not in self.faults, fault.seconds)
            finally:
                self.counts["waiting"] -= 1

    def all_attributes(self) -> dict[str, str]:
        """The attributes that the client shows, by their names without `user.`. Uptime is in minutes."""
        return {
            "fqrn": self.name,
            "revision": "1",
            "root_hash": hashlib.sha1(self.name.encode()).hexdigest(),
            "version": "2.12.0.0",
            "host": f"http://stratum1.invalid/cvmfs/{self.name}",
            "proxy": "DIRECT",
            "nioerr": str(self.counts["nioerr"]),
            "timestamp_last_ioerr": str(self.counts["timestamp_last_ioerr"]),
            "ncleanup24": "0",
            "ndownload": "1",
            "nopen": str(self.counts["nopen"]),
            "rx": "10",
            "speed": "100",
            "timeout": "5",
            "timeout_direct": "10",
            "expires": "3",
            "uptime": str(int(time.time() - self._born) // 60),
            "pid": str(os.getpid()),
            "maxfd": "65024",
            "usedfd": "0",
            "repo_metainfo": "n/a",
            **self.attributes,
        }


class Repositories:
    """All repositories of a server, and the orders that change them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_name: dict[str, Repository] = {}

    def named(self, name: str) -> Repository:
        with self._changed:
            return self._by_name.setdefault(name, Repository(name, self._changed))

    def obey(self, order: Mapping[str, Any]) -> None:
        """Does what an order of the control socket says; ValueError, KeyError or TypeError when it makes no sense."""
        orders = {"set": self._set, "attributes": self._set_attributes, "await_waiting": self._await_waiting}
        orders[order["do"]](self.named(order["repository"]), order)

    def _set(self, repository: Repository, order: Mapping[str, Any]) -> None:
        faults = tuple(Fault(**fault) for fault in order["faults"])
        with self._changed:
            repository.faults = faults
            self._changed.notify_all()

    def _set_attributes(self, repository: Repository, order: Mapping[str, Any]) -> None:
        repository.attributes = {str(name): str(value) for name, value in order["attributes"].items()}

    def _await_waiting(self, repository: Repository, order: Mapping[str, Any]) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: repository.counts["waiting"] >= order["calls"], order["seconds"]):
                raise ValueError(f"only {repository.counts['waiting']} calls are waiting, not {order['calls']}")


@dataclass(frozen=True)
class Settings:
    """What is fixed for the life of a mount."""

    tree: Path
    fqrn: str | None = None  # serve this repository of the tree as the whole mount
    cache_s: float = 0.0  # how long the kernel may remember stat results; the real client lets it for 60 s
    list_attributes: str = "root"  # "root" or "never": on which paths listxattr shows names
    protected: frozenset[str] = frozenset()  # attributes that only root may read


class FileSystem:
    """The file system's calls, as libfuse's high-level interface names them. Paths are relative to the mount."""

    use_ns = True  # mfusepy: times are integers in nanoseconds

    def __init__(self, settings: Settings, repositories: Repositories, when_mounted: Callable[[], None]) -> None:
        self._settings = settings
        self._repositories = repositories
        self._when_mounted = when_mounted

    def init_with_config(self, connection: Any, _config: Any) -> None:  # noqa: ANN401  mfusepy's types need libfuse
        """The kernel has the mount and asks for the first time."""
        connection.max_background = 1000  # reads ahead that hang in one repository must not use up the others' share
        self._when_mounted()

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        status = self._reach("getattr", path).lstat()
        fields = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks")
        times = {f"st_{kind}time": getattr(status, f"st_{kind}time_ns") for kind in "amc"}
        return {**{field: getattr(status, field) for field in fields}, **times}

    def readlink(self, path: str) -> str:
        return str(self._reach("readlink", path).readlink())

    def opendir(self, path: str) -> int:
        self._reach("opendir", path)
        return 0

    def readdir(self, path: str, _handle: int) -> list[str]:
        return [".", "..", *(child.name for child in self._reach("readdir", path).iterdir())]

    def open(self, path: str, flags: int) -> int:
        target = self._reach("open", path)
        if repository := self._locate(path)[0]:
            repository.counts["nopen"] += 1
        return os.open(target, flags & os.O_ACCMODE)

    def read(self, path: str, size: int, offset: int, handle: int) -> bytes:
        self._reach("read", path)
        repository, inner = self._locate(path)
        data = os.pread(handle, size, offset)
        return repository.spoil(inner, data) if repository else data

    def release(self, _path: str, handle: int) -> int:
        os.close(handle)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(self._reach("statfs", path))
        return {name: getattr(status, name) for name in ("f_bsize", "f_frsize", "f_blocks", "f_files", "f_namemax")}

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        self._reach("getxattr", path)
        repository = self._locate(path)[0]
        known = {**repository.all_attributes(), **self._of_file(path)} if repository else {}
        attribute = name.removeprefix("user.")
        if attribute == name or attribute not in known or (attribute in self._settings.protected and _caller_uid()):
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return known[attribute].encode()

    def _of_file(self, path: str) -> dict[str, str]:
        """A file's own attributes: the hash of its object, which is the file compressed."""
        target = self._real(path)
        if not target.is_file():
            return {}
        return {"hash": hashlib.sha1(zlib.compress(target.read_bytes())).hexdigest(), "compression": "zlib"}

    def listxattr(self, path: str) -> list[str]:
        self._reach("listxattr", path)
        repository, inner = self._locate(path)
        if repository is None or inner != "/" or self._settings.list_attributes == "never":
            return []
        return 2 * [f"user.{name}" for name in repository.all_attributes()]  # the real client shows each name twice

    def _locate(self, path: str) -> tuple[Repository | None, str]:
        """The repository that a path of the mount belongs to, and the path within it."""
        if self._settings.fqrn:
            return self._repositories.named(self._settings.fqrn), path
        name, _, inner = path.strip("/").partition("/")
        return (self._repositories.named(name), "/" + inner) if name else (None, "/")

    def _reach(self, call: str, path: str) -> Path:
        """Suffers the faults of the repository, then gives the real path behind."""
        repository, inner = self._locate(path)
        if repository is not None:
            repository.suffer(call, inner)
        return self._real(path)

    def _real(self, path: str) -> Path:
        repository, inner = self._locate(path)
        return self._settings.tree / repository.name / inner.lstrip("/") if repository else self._settings.tree


def _caller_uid() -> int:
    from mfusepy import fuse_get_context  # only the server process has libfuse loaded

    return int(fuse_get_context()[0])


class _ControlHandler(socketserver.StreamRequestHandler):
    server: "_ControlServer"

    def handle(self) -> None:
        for line in self.rfile:
            try:
                self.server.repositories.obey(json.loads(line))
                answer: dict[str, bool | str] = {"ok": True}
            except (ValueError, KeyError, TypeError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class _ControlServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, control: str, repositories: Repositories) -> None:
        super().__init__(_address(control), _ControlHandler)
        self.repositories = repositories


def _address(control: str) -> str:
    """A path, or @NAME for Linux's abstract sockets, which leave no file behind."""
    return "\0" + control[1:] if control.startswith("@") else control


def tell(control: str, order: Mapping[str, Any]) -> None:
    """Gives a running server an order and returns when it holds; ValueError when the server refuses it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(_address(control))
        connection.sendall(json.dumps(order).encode() + b"\n")
        answer = json.loads(connection.makefile().readline())
    if "error" in answer:
        raise ValueError(answer["error"])


def detach(mountpoint: Path) -> None:
    """Takes a mount away, whatever state it is in. Callers that hang in it get ECONNABORTED: force aborts FUSE's
    connection, just as writing to /sys/fs/fuse/connections/N/abort, without needing that file system mounted."""
    force, lazily, nofollow = 1, 2, 8
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), force | lazily | nofollow) == 0:
        return
    error = ctypes.get_errno()
    if error == errno.EPERM:  # an ordinary user's mount belongs to fusermount
        subprocess.run(["fusermount3", "-u", "-z", "-q", str(mountpoint)], check=False, timeout=10)
    elif error not in (errno.EINVAL, errno.ENOENT):  # these say that there is no mount any more
        raise OSError(error, os.strerror(error), str(mountpoint))


class StandIn:
    """A running stand-in, mounted in the mount namespace of the caller. A context manager that always cleans up."""

    def __init__(
        self,
        mountpoint: Path,
        tree: Path,
        *,
        fqrn: str | None = None,
        cache_s: float = 0.0,
        list_attributes: str = "root",
        protected: Iterable[str] = (),
    ) -> None:
        """The mount point has to exist; `tree` holds one folder a repository. The others are those of `Settings`."""
        self.mountpoint = mountpoint
        self._settings = Settings(tree, fqrn, cache_s, list_attributes, frozenset(protected))
        self._mounted = False  # never unmount what was there before us
        self._binds: list[Path] = []
        self._control = f"@cvmfs-standin-{secrets.token_hex(8)}"
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "StandIn":
        try:
            self._start()
        finally:
            if not self._mounted:
                self.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._server is not None, "the stand-in is not running"
        return self._server.pid

    def set(self, repository: str, *faults: Fault) -> None:
        """From now on the repository has exactly these faults; calls that wait for a lifted one go on."""
        self._tell({"do": "set", "repository": repository, "faults": [asdict(fault) for fault in faults]})

    def heal(self, repository: str) -> None:
        """Lifts all faults of the repository."""
        self.set(repository)

    def set_attributes(self, repository: str, **attributes: str) -> None:
        """Replaces what the repository's attributes say, by their names without `user.`; a new name adds one."""
        self._tell({"do": "attributes", "repository": repository, "attributes": attributes})

    def await_waiting(self, repository: str, calls: int = 1, seconds: float = 5.0) -> None:
        """Returns as soon as that many calls hang (or are slow) in the repository; ValueError when they don't."""
        self._tell({"do": "await_waiting", "repository": repository, "calls": calls, "seconds": seconds})

    def show(self, repository: str, point: Path) -> None:
        """Mounts one repository at a folder, as the real client does with each; one server suffices for many."""
        point.mkdir(parents=True, exist_ok=True)
        libc = ctypes.CDLL(None, use_errno=True)
        source, bind = os.fsencode(self.mountpoint / repository), 4096
        if libc.mount(source, os.fsencode(point), None, ctypes.c_ulong(bind), None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(point))
        self._binds.append(point)

    def vanish(self, repository: str, point: Path) -> None:
        """What follows the death of a client: calls fail, and its watchdog unmounts. Those that wait go on."""
        self.set(repository, Fault("enotconn"))
        subprocess.run(["umount", "--lazy", str(point)], check=True, timeout=10)

    def stop(self) -> None:
        """Stops the server (SIGSTOP): requests stay unread, so that signals still end their callers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Lets a stopped server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def die(self) -> None:
        """Kills the server (SIGKILL): the mount stays and answers ENOTCONN."""
        assert self._server is not None, "the stand-in is not running"
        self._server.kill()
        self._server.wait()

    def close(self) -> None:
        """Ends the server, its mount and every call that waits in it. May be called more than once."""
        try:
            if self._mounted:
                detach(self.mountpoint)
            while self._binds:
                detach(self._binds.pop())
        finally:
            self._mounted = False
            self._end_server()

    def _tell(self, order: Mapping[str, Any]) -> None:
        tell(self._control, order)

    def _start(self, seconds: float = 20.0) -> None:
        settings = self._settings
        command = [
            *(sys.executable, str(Path(__file__).resolve()), str(self.mountpoint)),
            *("--tree", str(settings.tree), "--control", self._control, "--stay-with-stdin"),
            *("--cache-s", str(settings.cache_s), "--list-attributes", settings.list_attributes),
            *(option for name in sorted(settings.protected) for option in ("--protect", name)),
            *(("--fqrn", settings.fqrn) if settings.fqrn else ()),
        ]
        with tempfile.TemporaryFile("w+") as errors, selectors.DefaultSelector() as selector:
            self._server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
            assert self._server.stdout is not None, "asked for above"
            selector.register(self._server.stdout, selectors.EVENT_READ)
            answered = selector.select(seconds)
            if not answered or not self._server.stdout.readline():  # an empty line: the server ended
                errors.seek(0)
                raise RuntimeError(f"no stand-in at {self.mountpoint}: {errors.read()[-2000:].strip()}")
        self._mounted = True

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.communicate()  # waits, and closes our ends of its pipes
            self._server = None


def serve(mountpoint: Path, settings: Settings, repositories: Repositories, when_mounted: Callable[[], None]) -> None:
    """Mounts and serves until the mount is taken away."""
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")  # mfusepy would prefer libfuse 2 where both are installed
    import mfusepy  # only the server needs libfuse: without it the tests can still be collected

    # A hung call keeps its thread. Since 3.12 libfuse has a limit, by default of 10.
    threads = {"max_threads": 1000} if mfusepy.fuse_version_minor >= 12 else {}
    mfusepy.FUSE(
        FileSystem(settings, repositories, when_mounted),
        str(mountpoint),
        foreground=True,
        fsname="cvmfs2",
        ro=True,
        nosuid=True,
        nodev=True,
        allow_other=True,
        default_permissions=True,
        attr_timeout=settings.cache_s,
        entry_timeout=settings.cache_s,
        **threads,
    )


@contextlib.contextmanager
def _listening(control: str, repositories: Repositories) -> Iterator[None]:
    with _ControlServer(control, repositories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield


def _leave_after(event: Callable[[], object], mountpoint: Path) -> None:
    """Ends the server when `event` returns. libfuse's own way would wait for the calls that hang."""

    def wait() -> None:
        event()
        detach(mountpoint)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def _stdin_closed() -> None:
    """Returns when our starter is gone, even by SIGKILL."""
    while os.read(sys.stdin.fileno(), 4096):
        pass


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A stand-in for CVMFS that fails on demand; says when it has mounted.")
    parser.add_argument("mountpoint", nargs="?", type=Path)
    parser.add_argument("--tree", type=Path, help="folder that holds one folder a repository")
    parser.add_argument("--fqrn", help="serve this one repository of the tree as the whole mount")
    parser.add_argument("--control", metavar="SOCKET", help="listen here for orders: a path, or @NAME")
    parser.add_argument("--cache-s", type=float, default=0.0, help="how long the kernel may remember stat results")
    parser.add_argument("--list-attributes", choices=("root", "never"), default="root")
    parser.add_argument("--protect", action="append", default=[], metavar="NAME", help="attribute for root only")
    parser.add_argument("--stay-with-stdin", action="store_true", help="end when standard input is closed")
    parser.add_argument("--tell", nargs=2, metavar=("SOCKET", "ORDER"), help="give a running stand-in an order (JSON)")
    arguments = parser.parse_args(argv)
    if not arguments.tell and not (arguments.mountpoint and arguments.tree):
        parser.error("a mount point and --tree are needed (or --tell)")
    if arguments.tree and not (served := arguments.tree / (arguments.fqrn or ".")).is_dir():
        parser.error(f"there is no folder {served} to serve")
    return arguments


def main(argv: Sequence[str]) -> None:
    """The program."""
    arguments = _arguments(argv)
    if arguments.tell:
        tell(arguments.tell[0], json.loads(arguments.tell[1]))
        return
    mountpoint = arguments.mountpoint.absolute()
    settings = Settings(
        arguments.tree.resolve(),
        arguments.fqrn,
        arguments.cache_s,
        arguments.list_attributes,
        frozenset(arguments.protect),
    )
    repositories = Repositories()
    # The main thread is inside libfuse, where Python runs no signal handler: a thread of ours waits for the signals.
    signals = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def when_mounted() -> None:
        _leave_after(lambda: signal.sigwait(signals), mountpoint)
        if arguments.stay_with_stdin:
            _leave_after(_stdin_closed, mountpoint)
        sys.stdout.write(f"mounted {mountpoint}\n")
        sys.stdout.flush()

    with _listening(arguments.control, repositories) if arguments.control else contextlib.nullcontext():
        serve(mountpoint, settings, repositories, when_mounted)


if __name__ == "__main__":
    main(sys.argv[1:])
