"""What is read about the machine itself."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest

from probe.detectors import machine
from probe.host import Host
from tests.probe.samples import HUNG, died, done

V2 = {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}
V3 = V2 | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

X86 = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: Gold\nflags\t\t: fpu avx2\n\n"
    "processor\t: 1\nflags\t\t: other\n"
)
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve\nCPU implementer\t: 0x41\n"


@pytest.mark.parametrize(
    ("text", "model", "flags"),
    [
        (X86, "Xeon: Gold", {"fpu", "avx2"}),
        (ARM, None, {"fp", "asimd", "sve"}),
        ("", None, set()),
        ("model name\t:\nflags\t\t:\n", None, set()),
    ],
)
def test_cpuinfo_gives_model_and_flags_of_the_first_processor(text: str, model: str | None, flags: set[str]):
    assert machine.parse_cpuinfo(text) == {"model": model, "flags": flags}


@pytest.mark.parametrize(
    ("arch", "flags", "level"),
    [
        ("x86_64", {"fpu"}, "x86_64-v1"),
        ("x86_64", V2 - {"pni"}, "x86_64-v1"),
        ("x86_64", V2, "x86_64-v2"),
        ("x86_64", V3 - {"abm"}, "x86_64-v2"),
        ("x86_64", V3, "x86_64-v3"),
        ("x86_64", V4 - {"avx512vl"}, "x86_64-v3"),
        ("x86_64", V4, "x86_64-v4"),
        ("x86_64", V4 - {"ssse3"}, "x86_64-v1"),  # a level needs all those below it
        ("x86_64", set(), None),
        ("aarch64", {"asimd", "sve"}, None),
    ],
)
def test_the_level_is_the_highest_whose_flags_are_all_there(arch: str, flags: set[str], level: str | None):
    assert machine.microarch(arch, flags) == level


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'NAME="Rocky Linux"\nVERSION_ID="8.10"\nID="rocky"\nPRETTY_NAME="Rocky Linux 8.10"\n',
            ("rocky", "8.10", "Rocky Linux 8.10"),
        ),
        ("ID=debian\nVERSION_ID='12'\nNAME=Debian\n", ("debian", "12", "Debian")),
        ("ID=arch\r\nPRETTY_NAME=\r\nNAME=Arch Linux\r\n", ("arch", None, "Arch Linux")),
        ("", (None, None, None)),
        ("VERSION=1\n# ID=no\n", (None, None, None)),
    ],
)
def test_os_release_gives_id_version_and_name(text: str, expected: tuple[str | None, ...]):
    found = machine.parse_os_release(text)
    assert (found["id"], found["version_id"], found["name"]) == expected


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("3.10.0-1160.119.1.el7.x86_64", [3, 10, 0]),
        ("6.8.0-45-generic", [6, 8, 0]),
        ("6.18", [6, 18]),
        ("5.14.21.4", [5, 14, 21]),
        ("custom", None),
        ("", None),
    ],
)
def test_kernel_version_is_the_leading_numbers(release: str, version: list[int] | None):
    assert machine.parse_kernel_version(release) == version


def test_status_and_meminfo():
    assert machine.parse_status("Name:\tx\nNoNewPrivs:\t1\nCapEff:\t0000\nbroken\n") == {
        "Name": "x",
        "NoNewPrivs": "1",
        "CapEff": "0000",
    }
    assert machine.parse_meminfo("MemFree:  1 kB\nMemTotal:       16316412 kB\n") == 16316412 * 1024
    assert machine.parse_meminfo("MemTotal: many\n") is None


@pytest.mark.parametrize(
    ("environment", "files", "cgroup", "kind"),
    [
        ({}, [], "0::/user.slice\n", None),
        ({"KUBERNETES_SERVICE_HOST": "x"}, ["/.dockerenv"], "", "kubernetes"),
        ({"APPTAINER_CONTAINER": "/x.sif"}, [], "", "singularity"),
        ({"SINGULARITY_CONTAINER": ""}, [], "", None),
        ({}, ["/.dockerenv"], "", "docker"),
        ({}, ["/run/.containerenv"], "", "podman"),
        ({}, ["/.singularity.d"], "", "singularity"),
        ({}, [], "0::/kubepods.slice/x\n", "kubernetes"),
        ({}, [], "12:cpu:/docker/0123\n", "docker"),
        ({}, [], "0::/machine.slice/libpod-01.scope\n", "podman"),
        ({}, [], "0::/lxc.payload.x\n", "lxc"),
        ({}, [], "0::/system.slice/docker-0123.scope\n", "docker"),
        ({}, [], "3:cpuset:/kubepods/burstable/pod1\n", "kubernetes"),
        ({}, [], "0::/htcondor/condor_execute_slot1@dockerhost12\n", None),
        ({}, [], "0::/system.slice/lxcfs.service/lxd-docker\n", None),
    ],
)
def test_an_outer_container_shows_in_environment_files_or_cgroup(
    tmp_path, environment: dict[str, str], files: list[str], cgroup: str, kind: str | None
):
    for name in files:
        path = tmp_path / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert machine.container_kind(Host(environment, str(tmp_path)), cgroup) == kind


@pytest.mark.parametrize(
    ("value", "said"), [(0, 0), (1024, 1024), (-1, "unlimited"), (2**63 - 1, "unlimited"), (2**64 - 1, "unlimited")]
)
def test_a_limit_is_a_number_or_the_word_unlimited(value: int, said: object):
    assert machine._limit(value) == said


def test_the_machine_id_is_a_hash_that_differs_by_host_name_and_in_containers_by_boot(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("a" * 32 + "\n")
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("boot\n")
    host = Host({}, str(tmp_path))
    ids = [
        machine._machine_id(host, {"hostname": "n1"}, None),
        machine._machine_id(host, {"hostname": "n2"}, None),
        machine._machine_id(host, {"hostname": "n1"}, "docker"),
    ]
    assert len({*ids}) == 3
    assert all(len(found or "") == 32 and "a" * 8 not in (found or "") for found in ids)
    assert machine._machine_id(host, {"hostname": "n2"}, "docker") == ids[2]


def test_no_machine_id_where_nothing_tells_nodes_apart(tmp_path):
    assert machine._machine_id(Host({}, str(tmp_path)), {"hostname": "n1"}, "docker") is None


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [
        (done("glidein"), "ok", None),
        (done(None), "fail", "user_unknown"),
        (HUNG, "timeout", "directory_service_hung"),
        (HUNG._replace(detail="has not answered since an earlier run"), "timeout", "directory_service_hung"),
        (died("KeyError"), "unknown", "probe_error"),
    ],
)
def test_a_user_is_known_unknown_or_asked_for_in_vain(result, status, reason):
    row = machine._user_check(result, 1001)
    assert (row["status"], row["reason"]) == (status, reason)
    assert row["message"]
