"""The payload and the minimal image, run for real: on this machine, under qemu, and in Apptainer."""

import array
import fcntl
import os
import platform
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from probe import minimal_image
from tests.lab.images import ensure_user, lab_folder

ROOT = Path(__file__).parents[2]
ARCHES = ("x86_64", "aarch64")
OWN_MAP = Path("/proc/self/uid_map").read_text().splitlines()

# Gives a mount namespace a /dev/fuse that everybody may open; the machine's own stays as it is.
OPEN_DEV_FUSE = 'mount -t tmpfs none "$0" && mknod -m 666 "$0/fuse" c 10 229 && mount --bind "$0/fuse" /dev/fuse'
HIDE_SQUASHFUSE = 'for f in squashfuse squashfuse_ll; do p=$(command -v $f) && mount --bind /dev/null "$p"; done'


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    subprocess.run([ROOT / "scripts/build-probe", "--data-only"], check=True, timeout=120)


@pytest.fixture(params=ARCHES)
def payload(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command that runs an architecture's payload here."""
    program = minimal_image.payload(request.param)
    if program is None:
        return not_here(f"no assembler for {request.param}")
    path = tmp_path / "payload"
    path.write_bytes(program)
    path.chmod(0o755)
    if request.param == platform.machine():
        return [str(path)]
    emulator = shutil.which(f"qemu-{request.param}-static")
    return [emulator, str(path)] if emulator else not_here(f"no qemu-{request.param}-static (qemu-user-static)")


def not_here(what: str) -> list[str]:
    """Skip, but not where everything has to be there."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def run(command: Sequence[str | Path], cwd: Path | None = None, check: bool = False):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=check)


def parse(output: str, nonce: str) -> list[tuple[str, str]]:
    """The (word, rest) of every line; all must begin with the nonce."""
    lines = [line.split(" ", 2) for line in output.splitlines()]
    assert {line[0] for line in lines} == {nonce}
    return [(line[1], line[2] if len(line) > 2 else "") for line in lines]


# --- the payload ---


@pytest.mark.parametrize("arch", ARCHES)
def test_payload_is_small_and_has_no_segment_both_writable_and_executable(arch: str):
    program = minimal_image.payload(arch) or pytest.skip(f"no assembler for {arch}")
    assert len(program) < 1024
    (offset,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    flags = [struct.unpack_from("<I", program, offset + index * size + 4)[0] for index in range(count)]
    assert [flag & 3 for flag in flags] == [1, 2]  # the program: executable; the stack: writable


def test_payload_reports_map_pid_and_paths(payload: list[str], tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    paths = ["/", "/dev/null", str(tmp_path / "fifo"), "/does not exist", "/dev/null/x", "x" * 256]
    answer = run([*payload, "N-1", *paths], cwd=tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    seen = parse(answer.stdout, "N-1")
    assert [rest for word, rest in seen if word == "uid_map"] == OWN_MAP
    assert dict(seen)["pid"].isdecimal()
    errnos = ["0", "0", "0", "2", "20", "36"]
    assert [rest for word, rest in seen if word == "path"] == [f"{e} {p}" for e, p in zip(errnos, paths, strict=True)]
    assert seen[-1] == ("end", "")


def test_payload_prints_its_own_pid(payload: list[str]):
    process = subprocess.Popen([*payload, "N"], stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate(timeout=60)
    assert ("pid", str(process.pid)) in parse(output, "N")


def test_payload_without_nonce_is_wrong_use(payload: list[str]):
    answer = run(payload)
    assert (answer.returncode, answer.stdout) == (64, "")


def test_payload_that_cannot_write_says_so_by_its_exit_code(payload: list[str]):
    with Path("/dev/full").open("w") as full:
        assert subprocess.run([*payload, "N"], stdout=full, timeout=60).returncode == 74
    assert run(["sh", "-c", 'exec "$@" >&-', "sh", *payload, "N"]).returncode == 74


def test_payload_runs_with_stdin_closed(payload: list[str]):
    answer = run(["sh", "-c", 'exec "$@" <&-', "sh", *payload, "N", "/dev/null"])
    assert (answer.returncode, parse(answer.stdout, "N")[-2:]) == (0, [("path", "0 /dev/null"), ("end", "")])


def test_payload_survives_writes_cut_short_by_a_signal(payload: list[str]):
    """A stop while the pipe is full makes write() return less than it was given.

    The paths are longer than a page: a pipe takes less than that whole or not at all.
    """
    paths = [f"/{number:03}" + "x" * 20000 for number in range(20)]
    process = subprocess.Popen([*payload, "N", *paths], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pipe = process.stdout.fileno()
    wait_for(lambda: unread_bytes(pipe) > 15 * 4096 and state(process.pid) == "S")
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: state(process.pid) == "T")
    process.send_signal(signal.SIGCONT)
    output, _ = process.communicate(timeout=60)
    assert [rest for word, rest in parse(output, "N") if word == "path"] == [f"36 {path}" for path in paths]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().split()[2]


def unread_bytes(pipe: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def lab() -> None:
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")


@pytest.mark.lab
def test_payload_prints_every_line_of_a_map_and_nothing_for_an_empty_one(tmp_path: Path):
    lab()
    minimal_image.create_sandbox(str(tmp_path / "image"), platform.machine())
    program = tmp_path / "image/payload"
    assert [word for word, _ in parse(run(["unshare", "--user", program, "N"]).stdout, "N")] == ["pid", "end"]

    shell = ["unshare", "--user", "sh", "-c", 'echo; read line; exec "$0" N', str(program)]
    process = subprocess.Popen(shell, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    Path(f"/proc/{process.pid}/uid_map").write_text("".join(f"{inside * 10} {inside} 1\n" for inside in range(340)))
    output, _ = process.communicate("\n", timeout=60)
    maps = [rest.split() for word, rest in parse(output, "N") if word == "uid_map"]
    assert maps == [[str(inside * 10), str(inside), "1"] for inside in range(340)]


@pytest.mark.lab
def test_payload_runs_read_only_and_without_proc(tmp_path: Path):
    lab()
    minimal_image.create_sandbox(str(tmp_path), platform.machine())
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec chroot "$0" /payload N /tmp'
    answer = run(["unshare", "--mount", "sh", "-c", script, tmp_path])
    seen = parse(answer.stdout, "N")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (seen[0], seen[2:]) == (("uid_map_errno", "2"), [("path", "0 /tmp"), ("end", "")])


# --- the image ---


def test_what_was_not_built_is_none():
    assert minimal_image.payload("vax") is None
    assert minimal_image.sif("vax", "gzip") is None
    with pytest.raises(LookupError, match="no payload for vax"):
        minimal_image.create_sandbox("/nonexistent", "vax")


def test_sandbox_has_its_modes_whatever_the_umask(tmp_path: Path):
    old = os.umask(0o077)
    try:
        minimal_image.create_sandbox(str(tmp_path / "image"), platform.machine())
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in [tmp_path / "image", *tmp_path.glob("image/**/")]}
    assert modes == {0o755}
    assert (tmp_path / "image/payload").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "image/etc/passwd").stat().st_mode & 0o777 == 0o644


def test_singularity_before_3_6_finds_a_shell_also_from_outside(tmp_path: Path):
    minimal_image.create_sandbox(str(tmp_path), platform.machine())
    assert (tmp_path / "bin/sh").samefile(tmp_path / "payload")


# --- in Apptainer ---


@pytest.fixture(scope="module")
def apptainer() -> Path:
    lab()
    return Path(run([ROOT / "scripts/get-apptainer"], check=True).stdout.strip())


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the ordinary user can reach: pytest's own are closed to others."""
    lab()
    user = ensure_user()
    place = lab_folder() / tmp_path_factory.mktemp("minimal").name / str(os.getpid())
    for name in ("work", "cvmfs", "fuse"):
        (place / name).mkdir(parents=True)
    os.chown(place / "work", user.pw_uid, user.pw_gid)
    minimal_image.create_sandbox(str(place / "sandbox"), platform.machine())
    for compression in minimal_image.COMPRESSIONS:
        (place / f"{compression}.sif").write_bytes(minimal_image.sif(platform.machine(), compression) or b"")
        (place / f"{compression}.sif").chmod(0o644)
    yield place
    shutil.rmtree(place.parent)


def factory_test(apptainer: Path, place: Path, image: str, prepare: str = ":", user: str = "glidein"):
    """The factory's test command, as the ordinary user, in a mount namespace that `prepare` may change.

    The machine has no /cvmfs: a folder of ours stands in.
    """
    command = ["runuser", "-u", user, "--", str(apptainer), "exec", "--home", f"{place}/work:/srv", "--pwd", "/srv"]
    command += ["--ipc", "--contain", "--pid", "--bind", f"{place}/cvmfs:/cvmfs,/etc/hosts,/etc/localtime"]
    command += [f"{place}/{image}", "/payload", "NONCE", "/cvmfs", "/srv"]
    script = f'{prepare} && exec "$@"'
    return run(["unshare", "--mount", "sh", "-c", script, place / "fuse", *command], cwd=place / "work")


def assert_ran(answer: subprocess.CompletedProcess[str]) -> None:
    assert answer.returncode == 0, answer.stderr
    seen = parse(answer.stdout, "NONCE")
    uid = str(ensure_user().pw_uid)
    assert (seen[0][0], seen[0][1].split()) == ("uid_map", [uid, uid, "1"])
    assert seen[2:] == [("path", "0 /cvmfs"), ("path", "0 /srv"), ("end", "")]


def warnings_of(answer: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines on stderr, without the notes on helper programs that aren't there."""
    return [line for line in answer.stderr.splitlines() if " not found, will not be able to " not in line]


@pytest.mark.lab
@pytest.mark.parametrize("image", ["sandbox", "gzip.sif", "zstd.sif"])
@pytest.mark.parametrize(
    "layers",
    ["overlay = yes", "overlay = no", "overlay = no,underlay = preferred", "overlay = no,underlay = no"],
)
def test_apptainer_runs_the_image_without_a_warning(apptainer: Path, place: Path, image: str, layers: str):
    configuration = apptainer.parents[1] / "etc/apptainer/apptainer.conf"
    edits = "".join(f"s/^enable {layer.split()[0]} = .*/enable {layer}/;" for layer in layers.split(","))
    edit = f"sed '{edits}' {configuration} >{place}/conf && mount --bind {place}/conf {configuration}"
    answer = factory_test(apptainer, place, image, f"{OPEN_DEV_FUSE} && {edit}")
    assert_ran(answer)
    assert warnings_of(answer) == []


@pytest.mark.lab
@pytest.mark.parametrize("image", ["gzip.sif", "zstd.sif"])
def test_apptainer_without_squashfuse_converts_the_sif(apptainer: Path, place: Path, image: str):
    answer = factory_test(apptainer, place, image, HIDE_SQUASHFUSE)
    assert_ran(answer)
    assert "INFO:    Converting SIF file to temporary sandbox..." in answer.stderr


@pytest.mark.lab
@pytest.mark.parametrize("image", ["gzip.sif", "zstd.sif"])
def test_the_kernel_mounts_the_sif_at_its_data_offset(place: Path, image: str):
    """What a setuid installation does with `allow setuid-mount squashfs = yes`."""
    script = f'mount -t squashfs -o loop,ro,offset=4096 {place}/{image} "$0" && "$0/payload" NONCE && umount "$0"'
    answer = run(["unshare", "--mount", "sh", "-c", script, place / "fuse"])
    assert (answer.returncode, parse(answer.stdout, "NONCE")[-1]) == (0, ("end", ""))


@pytest.mark.lab
@pytest.mark.parametrize(("arch", "name"), [("x86_64", "amd64"), ("aarch64", "arm64")])
def test_apptainer_lists_one_primary_partition(apptainer: Path, tmp_path: Path, arch: str, name: str):
    (tmp_path / "x.sif").write_bytes(minimal_image.sif(arch, "gzip") or not_here(f"no assembler for {arch}"))
    answer = run([apptainer, "sif", "list", tmp_path / "x.sif"], check=True)
    partitions = [line for line in answer.stdout.splitlines() if line[:1].isdecimal()]
    assert [line.split("|")[-1] for line in partitions] == [f"FS (Squashfs/*System/{name})"]
