"""Every behaviour is seen from outside: by one system call in a child process that may be abandoned."""

import errno
import hashlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import cvmfs_standin
from tests.lab.cvmfs_standin import BEHAVIOURS, EVERYTHING, Fault, FileSystem, Repositories, Settings, StandIn, detach
from tests.lab.images import ensure_user

OASIS = "oasis.opensciencegrid.org"
OTHER = "cms.cern.ch"
PROGRAM = cvmfs_standin.__file__
HANGS = "hangs"

CHILD = """
import errno, os, sys
CALLS = {
    "stat": lambda path: os.stat(path) and "ok",
    "list": lambda path: " ".join(sorted(os.listdir(path))),
    "read": lambda path: os.read(os.open(path, os.O_RDONLY), 100).decode().strip(),
    "readlink": os.readlink,
    "write": lambda path: os.open(path, os.O_WRONLY),
    "create": lambda path: os.open(path + ".new", os.O_WRONLY | os.O_CREAT),
    "statfs": lambda path: os.statvfs(path) and "ok",
    "names": lambda path: " ".join(os.listxattr(path)),
    "attribute": lambda path: os.getxattr(path, "user." + sys.argv[3]).decode(),
}
if os.geteuid() == 0 and int(sys.argv[4]):
    os.setgroups([]); os.setgid(int(sys.argv[4])); os.setuid(int(sys.argv[4]))
try:
    print(CALLS[sys.argv[1]](sys.argv[2]))
except OSError as error:
    print(errno.errorcode[error.errno])
"""

lab = pytest.mark.lab


class Onlooker:
    """Makes system calls in children with a time limit, and keeps those that did not come back."""

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.children: list[subprocess.Popen[str]] = []

    def start(self, call: str, path: Path, attribute: str = "", *, uid: int | None = None) -> subprocess.Popen[str]:
        uid = self.uid if uid is None else uid
        command = [sys.executable, "-S", "-c", CHILD, call, str(path), attribute, str(uid)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
        self.children.append(child)
        return child

    def sees(self, call: str, path: Path, attribute: str = "", *, uid: int | None = None) -> str:
        try:
            return self.start(call, path, attribute, uid=uid).communicate(timeout=10)[0].strip()
        except subprocess.TimeoutExpired:
            return HANGS

    def ends(self, child: subprocess.Popen[str], seconds: float = 5.0) -> bool:
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


@pytest.fixture
def onlooker() -> Iterator[Onlooker]:
    """An ordinary user; set up before the mounts, so that at its end nobody hangs any more."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    watcher = Onlooker(ensure_user().pw_uid)
    yield watcher
    for child in watcher.children:
        child.communicate(timeout=10)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in (OASIS, OTHER):
        (tree / name / "images" / "el9").mkdir(parents=True)
        (tree / name / ".cvmfsdirtab").write_text("/images/*\n")
        (tree / name / "new_repository").write_text(f"this is {name}\n")
        (tree / name / "images" / "el9" / "sh").write_text("program\n")
        (tree / name / "images" / "latest").symlink_to("el9")
    return tree


@pytest.fixture
def mountpoint() -> Iterator[Path]:
    """Not below pytest's own folders, which an ordinary user cannot enter."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    with tempfile.TemporaryDirectory(prefix="cvmfs-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def shown() -> Iterator[Path]:
    """A folder to show repositories in."""
    with tempfile.TemporaryDirectory(prefix="cvmfs-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def cvmfs(onlooker: Onlooker, tree: Path, mountpoint: Path) -> Iterator[StandIn]:
    del onlooker  # only has to be set up before
    with StandIn(mountpoint, tree) as standin:
        yield standin


def is_mounted(mountpoint: Path) -> bool:
    return f" {mountpoint} " in Path("/proc/self/mountinfo").read_text()


def stat_of_process(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def await_end_of_process(pid: int, seconds: float = 10.0) -> None:
    """For a process that is not our child; returns at once when there is none."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        ended = selector.select(seconds)
    os.close(descriptor)
    assert ended, f"process {pid} is still there after {seconds} s"


HEALTHY = {
    ("stat", "/"): "ok",
    ("list", "/"): ".cvmfsdirtab images new_repository",
    ("list", "/images"): "el9 latest",
    ("stat", "/images/el9/sh"): "ok",
    ("read", "/new_repository"): f"this is {OASIS}",
    ("read", "/images/latest/sh"): "program",
    ("readlink", "/images/latest"): "el9",
    ("statfs", "/"): "ok",
    ("attribute", "/"): OASIS,
    ("attribute", "/images/el9"): OASIS,
}
OF_THE_ROOT = {("stat", "/"), ("attribute", "/")}  # an attribute of a path below needs that path found first
CONTENT = {question for question in HEALTHY if question[0] == "read"}
ABOVE_EL9 = {question: answer for question, answer in HEALTHY.items() if not question[1].startswith("/images/")}


@lab
@pytest.mark.parametrize(
    ("fault", "differs"),
    [
        pytest.param(None, {}, id="healthy"),
        pytest.param(Fault("eio_data"), dict.fromkeys(CONTENT, "EIO"), id="eio_data"),
        pytest.param(Fault("eio"), dict.fromkeys(HEALTHY.keys() - OF_THE_ROOT, "EIO"), id="eio"),
        pytest.param(Fault("enotconn"), dict.fromkeys(HEALTHY, "ENOTCONN"), id="enotconn"),
        pytest.param(Fault("eacces"), dict.fromkeys(HEALTHY, "EACCES"), id="eacces"),
        pytest.param(Fault("hang", seconds=0.0), dict.fromkeys(HEALTHY, "EIO"), id="hang-that-ends"),
        pytest.param(
            Fault("eio", below="/images"),
            {question: "EIO" for question in HEALTHY if question[1].startswith("/images")},
            id="eio-below",
        ),
    ],
)
def test_a_fault_changes_exactly_what_it_should(
    cvmfs: StandIn, onlooker: Onlooker, fault: Fault | None, differs: dict[tuple[str, str], str]
):
    cvmfs.set(OASIS, *([fault] if fault else []))
    root = cvmfs.mountpoint / OASIS
    seen = {(call, path): onlooker.sees(call, root / path.lstrip("/"), "fqrn") for call, path in HEALTHY}
    assert seen == HEALTHY | differs


@lab
def test_a_fault_of_one_repository_leaves_the_others_and_the_list_of_them_alone(cvmfs: StandIn, onlooker: Onlooker):
    cvmfs.set(OASIS, Fault("enotconn"))
    assert onlooker.sees("list", cvmfs.mountpoint) == f"{OTHER} {OASIS}"
    assert onlooker.sees("read", cvmfs.mountpoint / OTHER / "new_repository") == f"this is {OTHER}"


@lab
def test_many_hanging_calls_leave_the_other_repositories_alone(cvmfs: StandIn, onlooker: Onlooker):
    # Until the kernel knows the name, the first of several callers asks the server and the others wait for that one.
    assert onlooker.sees("stat", cvmfs.mountpoint / OASIS) == "ok"
    cvmfs.set(OASIS, Fault("hang"))
    for _ in range(15):  # libfuse has 10 threads unless told otherwise
        onlooker.start("list", cvmfs.mountpoint / OASIS)
    cvmfs.await_waiting(OASIS, calls=15)
    assert onlooker.sees("read", cvmfs.mountpoint / OTHER / "new_repository") == f"this is {OTHER}"


@lab
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_hanging_caller_ignores_signals_until_answered(cvmfs: StandIn, onlooker: Onlooker, ending: signal.Signals):
    cvmfs.set(OASIS, Fault("hang"))
    caller = onlooker.start("list", cvmfs.mountpoint / OASIS)
    cvmfs.await_waiting(OASIS)
    assert stat_of_process(caller.pid) == "S"  # looks like any sleeper before the first signal
    caller.send_signal(ending)
    assert not onlooker.ends(caller, seconds=0.5)
    assert stat_of_process(caller.pid) == "D"
    cvmfs.heal(OASIS)
    assert onlooker.ends(caller)
    assert caller.returncode == -ending


@lab
def test_below_a_path_a_hang_leaves_the_rest_answering(cvmfs: StandIn, onlooker: Onlooker):
    cvmfs.set(OASIS, Fault("hang", below="/images/el9"))
    hanging = onlooker.start("list", cvmfs.mountpoint / OASIS / "images" / "el9")
    cvmfs.await_waiting(OASIS)
    root = cvmfs.mountpoint / OASIS
    seen = {(call, path): onlooker.sees(call, root / path.lstrip("/"), "fqrn") for call, path in ABOVE_EL9}
    assert seen == ABOVE_EL9
    assert onlooker.sees("stat", root / "images" / "el9") == "ok"
    assert not onlooker.ends(hanging, seconds=0)


@lab
@pytest.mark.parametrize(("behaviour", "content"), [("truncated", "this is oasi"), ("overwritten", "uihr")])
def test_a_damaged_cache_gives_less_or_other_bytes_and_no_error(
    cvmfs: StandIn, onlooker: Onlooker, behaviour: str, content: str
):
    cvmfs.set(OASIS, Fault(behaviour))
    root = cvmfs.mountpoint / OASIS
    assert onlooker.sees("read", root / "new_repository").startswith(content)
    assert onlooker.sees("attribute", root, "nioerr") == "0"


@lab
def test_a_files_hash_is_that_of_its_object(cvmfs: StandIn, onlooker: Onlooker):
    file = cvmfs.mountpoint / OASIS / "new_repository"
    content = (
        file.read_bytes(),
        onlooker.sees("attribute", file, "hash"),
        onlooker.sees("attribute", file, "compression"),
    )
    assert content[1:] == (hashlib.sha1(zlib.compress(content[0])).hexdigest(), "zlib")
    assert onlooker.sees("attribute", cvmfs.mountpoint / OASIS, "hash") == "ENODATA"


@lab
def test_repositories_of_one_server_are_shown_apart_and_vanish_apart(shown: Path, cvmfs: StandIn, onlooker: Onlooker):
    for name in (OASIS, OTHER):
        cvmfs.show(name, shown / name)
        assert onlooker.sees("read", shown / name / "new_repository") == f"this is {name}"
    cvmfs.vanish(OASIS, shown / OASIS)
    assert onlooker.sees("list", shown / OASIS) == ""
    assert onlooker.sees("list", cvmfs.mountpoint / OASIS) == "ENOTCONN"
    assert onlooker.sees("read", shown / OTHER / "new_repository") == f"this is {OTHER}"
    cvmfs.close()
    assert not is_mounted(shown / OTHER)


@lab
def test_a_slow_repository_answers_rightly_but_late(cvmfs: StandIn, onlooker: Onlooker):
    cvmfs.set(OASIS, Fault("slow", seconds=30.0))
    caller = onlooker.start("stat", cvmfs.mountpoint / OASIS)
    cvmfs.await_waiting(OASIS)
    cvmfs.set(OASIS, Fault("slow", seconds=0.01))
    assert caller.communicate(timeout=10)[0] == "ok\n"


@lab
def test_a_killed_server_leaves_a_mount_that_is_not_connected(cvmfs: StandIn, onlooker: Onlooker):
    cvmfs.die()
    assert is_mounted(cvmfs.mountpoint)
    for call in ("stat", "list", "attribute", "statfs"):
        assert onlooker.sees(call, cvmfs.mountpoint, "fqrn") == "ENOTCONN"


@lab
def test_a_killed_server_frees_those_that_hung(cvmfs: StandIn, onlooker: Onlooker):
    cvmfs.set(OASIS, Fault("hang"))
    caller = onlooker.start("list", cvmfs.mountpoint / OASIS)
    cvmfs.await_waiting(OASIS)
    cvmfs.die()
    assert caller.communicate(timeout=10)[0] == "ECONNABORTED\n"


@lab
def test_with_the_kernels_memory_stat_of_the_root_outlives_the_server(onlooker: Onlooker, tree: Path, mountpoint: Path):
    with StandIn(mountpoint, tree, fqrn=OASIS, cache_s=60) as cvmfs:
        assert onlooker.sees("stat", mountpoint) == "ok"
        cvmfs.die()
        assert onlooker.sees("stat", mountpoint) == "ok"
        assert onlooker.sees("list", mountpoint) == "ENOTCONN"


@lab
def test_the_caller_of_a_stopped_server_can_be_ended(cvmfs: StandIn, onlooker: Onlooker):
    cvmfs.stop()
    caller = onlooker.start("list", cvmfs.mountpoint / OASIS)
    assert not onlooker.ends(caller, seconds=0.3)
    caller.terminate()
    assert onlooker.ends(caller)
    cvmfs.resume()
    assert onlooker.sees("stat", cvmfs.mountpoint / OASIS) == "ok"


@lab
@pytest.mark.parametrize("state", ["healthy", "hang", "stopped", "dead"])
def test_leaving_takes_away_mount_server_and_hanging_callers(
    onlooker: Onlooker, tree: Path, mountpoint: Path, state: str
):
    with StandIn(mountpoint, tree) as cvmfs:
        server = cvmfs.pid
        if state == "hang":
            cvmfs.set(OASIS, Fault("hang"))
            caller = onlooker.start("list", mountpoint / OASIS)
            cvmfs.await_waiting(OASIS)
            caller.kill()
        elif state == "stopped":
            cvmfs.stop()
            onlooker.start("list", mountpoint / OASIS)
        elif state == "dead":
            cvmfs.die()
    assert not is_mounted(mountpoint)
    assert not Path(f"/proc/{server}").exists()
    assert all(onlooker.ends(caller) for caller in onlooker.children)


@lab
def test_one_repository_can_be_the_whole_mount(onlooker: Onlooker, tree: Path, mountpoint: Path):
    with StandIn(mountpoint, tree, fqrn=OASIS) as cvmfs:
        assert onlooker.sees("list", mountpoint) == HEALTHY["list", "/"]
        assert onlooker.sees("attribute", mountpoint, "fqrn") == OASIS
        cvmfs.set(OASIS, Fault("eio"))
        assert onlooker.sees("stat", mountpoint) == "ok"
        assert onlooker.sees("list", mountpoint) == "EIO"


@lab
def test_it_looks_like_the_clients_mount(cvmfs: StandIn):
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    (line,) = [mount for mount in mounts if f" {cvmfs.mountpoint} " in mount]
    options, _, kind = line.partition(" - ")
    assert options.split()[5].startswith("ro,nosuid,nodev")
    assert kind.split()[:2] == ["fuse", "cvmfs2"]


@lab
@pytest.mark.parametrize("call", ["write", "create"])
def test_it_is_read_only(cvmfs: StandIn, onlooker: Onlooker, call: str):
    assert onlooker.sees(call, cvmfs.mountpoint / OASIS / "new_repository", uid=0) == "EROFS"


@lab
def test_a_failed_open_raises_nioerr_and_a_failed_catalog_does_not(cvmfs: StandIn, onlooker: Onlooker):
    root = cvmfs.mountpoint / OASIS
    cvmfs.set(OASIS, Fault("eio", below="/images"))
    assert onlooker.sees("list", root / "images") == "EIO"
    assert onlooker.sees("attribute", root, "nioerr") == "0"
    cvmfs.set(OASIS, Fault("eio_data"))
    assert onlooker.sees("read", root / "new_repository") == "EIO"
    assert onlooker.sees("attribute", root, "nioerr") == "1"
    assert int(onlooker.sees("attribute", root, "timestamp_last_ioerr")) > 1_700_000_000


@lab
def test_attributes_can_be_set_and_unknown_ones_are_no_data(cvmfs: StandIn, onlooker: Onlooker):
    root = cvmfs.mountpoint / OASIS
    cvmfs.set_attributes(OASIS, revision="4711", host_list="a;b")
    assert onlooker.sees("attribute", root, "revision") == "4711"
    assert onlooker.sees("attribute", root / "images", "host_list") == "a;b"
    assert onlooker.sees("attribute", root, "nonsense") == "ENODATA"
    assert onlooker.sees("attribute", cvmfs.mountpoint, "fqrn") == "ENODATA"
    assert onlooker.sees("attribute", root, "pid") == str(cvmfs.pid)


@lab
def test_a_protected_attribute_is_roots_alone(onlooker: Onlooker, tree: Path, mountpoint: Path):
    with StandIn(mountpoint, tree, protected=["host"]):
        assert onlooker.sees("attribute", mountpoint / OASIS, "host") == "ENODATA"
        assert onlooker.sees("attribute", mountpoint / OASIS, "host", uid=0).startswith("http://")


@lab
@pytest.mark.parametrize(("list_attributes", "times"), [("root", 2), ("never", 0)])
def test_names_of_attributes_are_shown_twice_on_the_root_or_never(
    onlooker: Onlooker, tree: Path, mountpoint: Path, list_attributes: str, times: int
):
    with StandIn(mountpoint, tree, list_attributes=list_attributes):
        assert onlooker.sees("names", mountpoint / OASIS).split().count("user.fqrn") == times
        assert onlooker.sees("names", mountpoint / OASIS / "images") == ""
        assert onlooker.sees("attribute", mountpoint / OASIS / "images", "fqrn") == OASIS


@lab
def test_the_server_takes_its_mount_away_when_its_starter_is_killed(tree: Path, mountpoint: Path):
    starter = f"""
import os, sys, pathlib
sys.path.insert(0, {str(Path(PROGRAM).parent)!r})
from cvmfs_standin import StandIn
with StandIn(pathlib.Path({str(mountpoint)!r}), pathlib.Path({str(tree)!r})) as standin:
    print(standin.pid, flush=True)
    os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", starter]
    started = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=20, check=False)
    assert started.returncode == -signal.SIGKILL
    await_end_of_process(int(started.stdout))
    assert not is_mounted(mountpoint)


@lab
@pytest.mark.parametrize("control", ["TMP/control", "@test-of-cvmfs-standin"])
def test_as_a_program_it_takes_orders_by_its_socket_and_ends_by_sigterm(
    tree: Path, mountpoint: Path, tmp_path: Path, control: str
):
    control = control.replace("TMP", str(tmp_path))
    command = [sys.executable, PROGRAM, str(mountpoint), "--tree", str(tree), "--control", control]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == f"mounted {mountpoint}\n"
            order = {"do": "set", "repository": OASIS, "faults": [{"behaviour": "eio"}]}
            subprocess.run([sys.executable, PROGRAM, "--tell", control, json.dumps(order)], timeout=20, check=True)
            with pytest.raises(OSError, match="Input/output error"):
                list((mountpoint / OASIS).iterdir())
        finally:
            server.terminate()
    assert not is_mounted(mountpoint)


@lab
def test_a_start_that_fails_says_why_and_leaves_nothing(tree: Path, mountpoint: Path):
    with (
        pytest.raises(RuntimeError, match=r"there is no folder .*/no-such-repository to serve"),
        StandIn(mountpoint, tree, fqrn="no-such-repository"),
    ):
        pass
    assert not is_mounted(mountpoint)


def test_detaching_what_is_no_mount_is_no_error(tmp_path: Path):
    detach(tmp_path)
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        ({"do": "set", "repository": OASIS, "faults": [{"behaviour": "nonsense"}]}, "no behaviour 'nonsense'"),
        ({"do": "set", "repository": OASIS, "faults": [{"behaviour": "slow"}]}, "needs seconds"),
        ({"do": "await_waiting", "repository": OASIS, "calls": 1, "seconds": 0}, "only 0 calls are waiting"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(order: dict[str, Any], complaint: str):
    with pytest.raises(ValueError, match=complaint):
        Repositories().obey(order)


paths = st.lists(st.sampled_from(["a", "b", "images", "images2"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(behaviour=st.sampled_from(sorted(BEHAVIOURS)), below=paths, path=paths, call=st.sampled_from(sorted(EVERYTHING)))
def test_a_fault_strikes_at_and_below_its_path_only(behaviour: str, below: str, path: str, call: str):
    inside = [*path.split("/")][: len(below.rstrip("/").split("/"))] == below.rstrip("/").split("/")
    assert inside or not Fault(behaviour, below, seconds=1.0).strikes(call, path)


def test_without_a_fault_the_file_system_answers_from_the_tree(tree: Path):
    files = FileSystem(Settings(tree, fqrn=OASIS), Repositories(), lambda: None)
    assert sorted(files.readdir("/images", 0)) == [".", "..", "el9", "latest"]
    with pytest.raises(OSError, match="No such file") as missing:
        files.getattr("/nowhere")
    assert missing.value.errno == errno.ENOENT
