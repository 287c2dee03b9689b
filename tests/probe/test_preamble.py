"""The shell preamble of the single file, run for real: which Python it becomes, what it says where there is none."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.pythons import SUPPORTED, python

ROOT = Path(__file__).parents[2]
PLACES = "/usr/bin/python3 /usr/libexec/platform-python"
SHELLS = {"dash": ("dash",), "busybox": ("busybox", "sh"), "bash": ("bash",)}

# Stands in for the probe's command line: says what it was started with.
CLI = """
import json, os, signal, sys
from probe import minimal_image

def main():
    if sys.argv[1:] == ["wait"]:
        print("ready", flush=True)
        signal.pause()
    flags = sys.flags
    print(json.dumps({
        "python": "%d.%d" % sys.version_info[:2], "arguments": sys.argv[1:], "pid": os.getpid(),
        "stdin": sys.stdin.read(), "site": not flags.no_site, "bytecode": not flags.dont_write_bytecode,
        "payload": minimal_image.payload(os.uname().machine)[:4].decode("latin-1"),
        "libraries": os.environ.get("LD_LIBRARY_PATH"), "path_known": bool(sys.executable),
    }))
    return 7

def run_program():
    sys.exit(main())
"""

# Our stand-in for GlideinWMS's add_config_line.source: same functions, same variables, bash only, and chatty.
HELPERS = """
add_config_line() { [[ -n "$glidein_config" ]] || exit 1; echo adding; echo "$@" >> "$glidein_config"; }
add_condor_vars_line() { echo "$@" >> "$condor_vars_file"; }
"""


@pytest.fixture(scope="module")
def system_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program looks for the system's own Python; /usr/bin in the one that ships."""
    return tmp_path_factory.mktemp("system")


@pytest.fixture
def system(system_folder: Path) -> Iterator[Path]:
    """That folder, empty."""
    yield system_folder
    for path in system_folder.iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, system_folder: Path) -> Path:
    """A single file, built from a tree whose command line is the stand-in, in a folder whose name has a blank."""
    tree = tmp_path_factory.mktemp("a tree")
    shutil.copytree(ROOT / "scripts", tree / "scripts")
    shutil.copytree(ROOT / "probe/payload", tree / "probe/payload")
    for name in ("__init__.py", "version.py", "minimal_image.py", "packed.py"):
        shutil.copy(ROOT / "probe" / name, tree / "probe" / name)
    (tree / "probe/cli.py").write_text(CLI)
    preamble = (tree / "scripts/preamble.sh").read_text()
    assert f"'{PLACES}'" in preamble
    there = f"'{system_folder}/python3 {system_folder}/platform-python'"
    (tree / "scripts/preamble.sh").write_text(preamble.replace(f"'{PLACES}'", there))
    subprocess.run([tree / "scripts/build-probe"], check=True, timeout=60)
    return tree / "dist/singularity-probe"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An empty folder to be the only one in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    name, *arguments = SHELLS[request.param]
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine")
    return [found, *arguments]


def run(command: Sequence[str | Path], path: Path, cwd: Path | None = None, **environment: str):
    return subprocess.run(
        command,
        env={"PATH": str(path), **environment},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def add_script(path: Path, name: str, text: str) -> None:
    (path / name).write_text(f"#!{shutil.which('sh')}\n{text}\n")
    (path / name).chmod(0o755)


def add_link(path: Path, name: str, target: Path) -> None:
    (path / name).symlink_to(target)


# --- which Python it becomes ---


@pytest.mark.parametrize("version", SUPPORTED)
def test_every_supported_python_runs_the_program(program: Path, path: Path, version: str):
    add_link(path, "python3", python(version))
    answer = run([program, "run", "a b", ""], path)
    assert answer.stderr == ""
    seen = json.loads(answer.stdout)
    assert (answer.returncode, seen["python"], seen["arguments"]) == (7, version, ["run", "a b", ""])
    assert (seen["site"], seen["bytecode"], seen["payload"]) == (False, False, "\x7fELF")


def test_every_shell_becomes_python(program: Path, path: Path, shell: list[str]):
    add_link(path, "python3", python("3.11"))
    answer = run([*shell, program, "x"], path)
    assert (answer.returncode, json.loads(answer.stdout)["arguments"]) == (7, ["x"])


def test_a_numbered_python_will_do(program: Path, path: Path):
    add_link(path, "python3.11", python("3.11"))
    assert json.loads(run([program], path).stdout)["python"] == "3.11"


@pytest.mark.parametrize(("there", "expected"), [("python3", "3.9"), ("platform-python", "3.9"), ("python3.9", "3.11")])
def test_the_systems_python_comes_before_any_name(
    program: Path, path: Path, system: Path, shell: list[str], there: str, expected: str
):
    add_link(path, "python3", python("3.11"))
    add_link(system, there, python("3.9"))
    assert json.loads(run([*shell, program], path).stdout)["python"] == expected


def test_the_glideins_own_python_comes_after_the_systems_and_before_any_name(
    program: Path, path: Path, system: Path, tmp_path: Path
):
    add_link(path, "python3", python("3.11"))
    own = tmp_path / "its own"
    own.mkdir()
    names = f"{own}:{path}"
    assert json.loads(run([program], path, GWMS_PATH=names).stdout)["python"] == "3.11"
    add_script(own, "gwms-python", f'exec {python("3.9")} "$@"')
    assert json.loads(run([program], path, GWMS_PATH=names).stdout)["python"] == "3.9"
    add_script(own, "gwms-python", "touch asked; exit 1")  # it walks PATH, where a folder may hang
    add_link(system, "python3", python("3.11"))
    assert json.loads(run([program], path, tmp_path, GWMS_PATH=names).stdout)["python"] == "3.11"
    assert not (tmp_path / "asked").exists()


def test_libraries_of_others_keep_no_python_from_starting(program: Path, path: Path, shell: list[str], tmp_path: Path):
    add_link(path, "python3", python("3.11"))
    for library in ("libm.so.6", "libpthread.so.0"):
        (tmp_path / library).write_text("garbage")
    bare = json.loads(run([*shell, program], path).stdout)
    assert (bare["libraries"], bare["path_known"]) == (None, True)
    answer = run([*shell, program], path, LD_LIBRARY_PATH=str(tmp_path))
    seen = json.loads(answer.stdout)
    assert (seen["libraries"], seen["path_known"], answer.stderr) == (str(tmp_path), False, "")


@pytest.mark.parametrize("name", ["dash", "busybox"])  # bash waits for 15 s before it gives up
@pytest.mark.parametrize(
    ("arguments", "code", "stdout"),
    [
        (["run"], 3, ""),
        (["startd-cron"], 0, 'PROBE_STATUS = "probe_error"\n'),
        (["glidein_config", "main"], 0, 'PROBE_STATUS = "probe_error"\n'),
    ],
)
def test_a_shell_that_cannot_start_a_process_ends_no_glidein(
    program: Path, path: Path, name: str, arguments: list[str], code: int, stdout: str
):
    with program.open() as script:  # that user cannot reach the folder
        become = ["setpriv", "--reuid=54321", "--clear-groups", "prlimit", "--nproc=1"]
        answer = subprocess.run(
            [*become, *SHELLS[name], f"/dev/fd/{script.fileno()}", *arguments],
            env={"PATH": f"{path}:/usr/bin:/bin", "PROBE_PYTHON": "/bin/true"},
            pass_fds=[script.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (answer.returncode, answer.stdout) == (code, stdout)
    assert "could not start a process" in answer.stderr


@pytest.mark.parametrize("name", ["dash", "busybox"])  # bash forgets its traps before it tries
def test_what_cannot_be_executed_after_all_ends_no_glidein(program: Path, path: Path, name: str, glidein: Path):
    remember(glidein, f"{path}/python3\n\n")
    (path / "python3").write_text("#!/no/such/interpreter\n")
    (path / "python3").chmod(0o755)
    command = [f"/bin/{name}", *SHELLS[name][1:], program, glidein / "glidein_config", "main"]
    answer = run(command, path, GLIDEIN_PERIODIC_SCRIPT="true")
    assert (answer.returncode, answer.stdout) == (0, 'PROBE_STATUS = "probe_error"\n')


@pytest.mark.parametrize(
    "broken",
    [
        "echo 'error while loading shared libraries: libpython3.so' >&2; exit 127",
        "kill -ABRT $$",
        "exit 0 </nonexistent",
    ],
    ids=["library-missing", "crash", "shim-of-nothing"],
)
def test_a_python_that_does_not_start_is_passed_over(program: Path, path: Path, broken: str):
    add_script(path, "python3", broken)
    add_link(path, "python3.9", python("3.9"))
    answer = run([program], path)
    assert (json.loads(answer.stdout)["python"], answer.stderr) == ("3.9", "")


def test_a_python_without_its_library_is_passed_over(program: Path, path: Path, system: Path, tmp_path: Path):
    # Debian's python3-minimal, which is /usr/bin/python3 there, has no json.
    whole = python("3.9").resolve()
    library = tmp_path / "minimal/lib/python3.9"
    library.mkdir(parents=True)
    for module in (whole.parents[1] / "lib/python3.9").iterdir():
        if module.name != "json":
            (library / module.name).symlink_to(module)
    minimal = tmp_path / "minimal/bin/python3"
    minimal.parent.mkdir()
    shutil.copy(whole, minimal)
    assert subprocess.run([minimal, "-c", "import json"], capture_output=True, check=False).returncode == 1
    add_link(system, "python3", minimal)
    add_link(path, "python3", python("3.11"))
    assert json.loads(run([program], path).stdout)["python"] == "3.11"


def test_probe_python_overrides_the_search(program: Path, path: Path):
    add_link(path, "python3", python("3.11"))
    assert json.loads(run([program], path, PROBE_PYTHON=str(python("3.9"))).stdout)["python"] == "3.9"
    assert json.loads(run([program], path, PROBE_PYTHON="/nonexistent").stdout)["python"] == "3.11"


def test_python_variables_of_the_glidein_do_no_harm(program: Path, path: Path, tmp_path: Path):
    for name in ("probe", "os", "zlib"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the wrong {name}')")
    add_link(path, "python3", python("3.11"))
    answer = run([program], path, cwd=tmp_path, PYTHONHOME="/nonexistent", PYTHONPATH=str(tmp_path))
    assert answer.returncode == 7


def test_a_python_2_that_is_given_the_file_by_hand_says_what_is_needed(program: Path, path: Path):
    answer = run([python("2.7"), program], path)
    assert answer.returncode == 3
    assert answer.stderr.startswith("singularity-probe: needs Python 3.6 or later, this is 2.7")


# --- as a child of GlideinWMS and HTCondor ---


def test_the_open_list_of_scripts_on_stdin_is_left_alone(program: Path, path: Path, shell: list[str], tmp_path: Path):
    add_link(path, "python3", python("3.11"))
    (tmp_path / "list").write_text("next_script.sh\n" * 3)
    with (tmp_path / "list").open() as scripts:
        answer = subprocess.run([*shell, program], stdin=scripts, env={"PATH": str(path)}, capture_output=True)
        assert json.loads(answer.stdout)["stdin"] == ""
        assert os.lseek(scripts.fileno(), 0, os.SEEK_CUR) == 0


def test_sigterm_to_the_main_process_reaches_python(program: Path, path: Path):
    add_link(path, "python3", python("3.11"))
    process = subprocess.Popen([program, "wait"], env={"PATH": str(path)}, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM


# --- where there is no Python ---


def test_without_python_run_fails_and_says_why(program: Path, path: Path, shell: list[str]):
    answer = run([*shell, program, "run"], path)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert "python_missing" in answer.stderr
    assert f"PATH: {path}" in answer.stderr
    assert "install python3" in answer.stderr


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_without_python_the_version_is_known(program: Path, path: Path, shell: list[str], option: str):
    answer = run([*shell, program, option], path)
    assert (answer.returncode, answer.stderr) == (0, "")
    version = (ROOT / "probe/version.py").read_text().split('"')[-2]
    assert answer.stdout.splitlines()[0] == f"singularity-probe {version}"


def test_without_python_startd_cron_gets_an_attribute(program: Path, path: Path, shell: list[str]):
    answer = run([*shell, program, "startd-cron"], path)
    assert (answer.returncode, answer.stdout) == (0, 'PROBE_STATUS = "python_missing"\n')
    assert "python_missing" in answer.stderr


@pytest.fixture
def glidein(tmp_path: Path, path: Path) -> Path:
    """A glidein's work folder: configuration, helpers, condor vars. Bash is there; Python isn't."""
    work = tmp_path / "glidein work"
    work.mkdir()
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    add_link(path, "bash", Path(bash))
    (work / "helpers.source").write_text(HELPERS)
    add_script(work, "error_gen.sh", 'printf "%s\\n" "$@" >otrb_output.xml; echo written')
    (work / "condor_vars.lst").write_text("X S - + N Y -\n")
    (work / "glidein_config").write_text(
        "# comment\n"
        "ERROR_GEN_PATH /nonexistent\n"
        f"ERROR_GEN_PATH {work}/error_gen.sh\n"
        "ERROR_GEN_PATH_OLD /nonexistent\n"
        f"ADD_CONFIG_LINE_SOURCE {work}/helpers.source\r\n"
        f"CONDOR_VARS_FILE {work}/condor_vars.lst"
    )
    return work


def test_without_python_a_custom_script_tells_the_glidein(program: Path, path: Path, shell: list[str], glidein: Path):
    answer = run([*shell, program, "glidein_config", "main"], path, cwd=glidein)
    assert (answer.returncode, answer.stdout) == (0, 'PROBE_STATUS = "python_missing"\n')
    assert "python_missing" in answer.stderr
    assert (glidein / "glidein_config").read_text().endswith("PROBE_STATUS python_missing\n")
    assert (glidein / "condor_vars.lst").read_text() == "X S - + N Y -\nPROBE_STATUS S - + N Y -\n"
    arguments = (glidein / "otrb_output.xml").read_text().splitlines()
    assert arguments == ["-ok", "singularity-probe", "PROBE_STATUS", "python_missing"]


def test_without_python_and_helpers_a_custom_script_still_ends_well(program: Path, path: Path, glidein: Path):
    (glidein / "helpers.source").write_text("exit 1\n")
    (glidein / "error_gen.sh").unlink()
    answer = run([program, "glidein_config", "main"], path, cwd=glidein)
    assert (answer.returncode, answer.stdout) == (0, 'PROBE_STATUS = "python_missing"\n')


def test_the_factory_can_name_a_python_in_glidein_config(program: Path, path: Path, glidein: Path):
    with (glidein / "glidein_config").open("a") as config:
        config.write(f"\nPROBE_PYTHON {python('3.9')}\n")
    answer = run([program, "glidein_config", "main"], path, cwd=glidein)
    assert json.loads(answer.stdout)["arguments"] == ["glidein_config", "main"]


def test_the_python_that_the_factory_names_comes_before_names_of_path(program: Path, path: Path, glidein: Path):
    add_link(path, "python3", python("3.11"))
    with (glidein / "glidein_config").open("a") as config:
        config.write(f"\nPROBE_PYTHON {python('3.9')}\n")
    assert json.loads(run([program, "glidein_config", "main"], path, cwd=glidein).stdout)["python"] == "3.9"


def test_a_file_that_is_no_glidein_config_is_no_custom_script(program: Path, path: Path, tmp_path: Path):
    (tmp_path / "report.json").write_text('{"ERROR_GEN_PATH ": 1}\n')
    assert run([program, "report.json"], path, cwd=tmp_path).returncode == 3


# --- what an earlier run of this glidein found ---


def remember(glidein: Path, content: str) -> Path:
    """The folder where runs remember things, with this in ``python``."""
    state = glidein / ".singularity-probe"
    state.mkdir(mode=0o700)
    (state / "python").write_text(content)
    return state


def periodic_python(program: Path, path: Path, shell: list[str], glidein: Path, **environment: str) -> str:
    """The Python of a periodic run; 3.11 is the one that a search finds."""
    add_link(path, "python3", python("3.11"))
    environment.setdefault("GLIDEIN_PERIODIC_SCRIPT", "true")
    answer = run([*shell, program, glidein / "glidein_config", "main"], path, **environment)
    assert answer.stderr == ""
    return str(json.loads(answer.stdout)["python"])


@pytest.mark.parametrize(
    ("content", "periodic", "expected"),
    [
        ("{python}\n\n", "true", "3.9"),
        ("{python}\n\n", "false", "3.11"),
        ("{python}\n/other/libraries\n", "true", "3.11"),
        ("{python}\n", "true", "3.11"),
        ("{python}/gone\n\n", "true", "3.11"),
        ("/bin/sh\n\n", "true", "3.11"),
        ("\n/some/libraries\n", "true", "3.11"),
        ("\0\xff", "true", "3.11"),
        ("", "true", "3.11"),
    ],
)
def test_a_periodic_run_takes_the_remembered_python_if_it_is_there(
    program: Path, path: Path, shell: list[str], glidein: Path, content: str, periodic: str, expected: str
):
    remember(glidein, content.format(python=python("3.9")))
    assert periodic_python(program, path, shell, glidein, GLIDEIN_PERIODIC_SCRIPT=periodic) == expected


def test_a_folder_that_somebody_named_is_not_asked_for_a_python(
    program: Path, path: Path, shell: list[str], glidein: Path
):
    state = remember(glidein, f"{python('3.9')}\n\n")  # such a folder may be on what hangs, and a shell knows no limit
    assert periodic_python(program, path, shell, glidein, PROBE_STATE=str(state)) == "3.11"


def test_the_remembered_python_goes_with_its_libraries(program: Path, path: Path, shell: list[str], glidein: Path):
    remember(glidein, f"{python('3.9')}\n/some/libraries\n")
    assert periodic_python(program, path, shell, glidein, LD_LIBRARY_PATH="/some/libraries") == "3.9"


@pytest.mark.parametrize("whose", ["folder", "file", "link"])
def test_a_python_that_somebody_else_left_there_is_not_taken(
    program: Path, path: Path, shell: list[str], glidein: Path, whose: str
):
    state = remember(glidein, f"{python('3.9')}\n\n")
    if whose == "link":
        (state / "python").rename(glidein / "elsewhere")
        (state / "python").symlink_to(glidein / "elsewhere")
    else:
        os.chown(state if whose == "folder" else state / "python", 1, -1)
    assert periodic_python(program, path, shell, glidein) == "3.11"
