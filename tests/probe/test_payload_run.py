"""What a container start tells, from what it printed."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import payload_run
from tests.probe.samples import exited, killed, not_started, timed_out

NONCE = "0123abc"
GOOD = (
    f"{NONCE} uid_map          0          0 4294967295\n{NONCE} pid 7\n"
    f"{NONCE} path 0 /srv\n{NONCE} path 13 /cv mfs\n{NONCE} end\n"
)


def judge(outcome):
    return payload_run.judge(outcome, NONCE, "apptainer exec", dict, 20.0)


def test_the_payloads_lines_are_read():
    assert payload_run.parse(GOOD, NONCE) == (True, ["0 0 4294967295"], 7, {"/srv": 0, "/cv mfs": 13})


@pytest.mark.parametrize(
    "stdout",
    [
        GOOD + "more noise\n",
        GOOD.replace("\n", "\r\n"),
        GOOD.replace(f"{NONCE} uid_map", f"\x1b[0m\x1b(B{NONCE} uid_map"),
    ],
)
def test_noise_carriage_returns_and_escape_codes_do_no_harm(stdout: str):
    assert payload_run.parse(stdout, NONCE) == payload_run.parse(GOOD, NONCE)


@pytest.mark.parametrize("banner", ["Welcome to the cluster\n", "\n", "\x1b[0m\n", "module loaded "])
def test_what_is_printed_first_is_what_glideinwms_reads_and_no_map(banner: str):
    verdict = judge(exited(0, banner + GOOD, "WARNING: something about a cgroup\n"))
    assert (verdict.status, verdict.reason, verdict.mode) == ("fail", "runtime_wrong_output", None)
    assert "first line" in (verdict.message or "")


def test_a_kernel_without_uid_maps_runs_what_is_privileged():
    without = GOOD.replace(f"{NONCE} uid_map          0          0 4294967295", f"{NONCE} uid_map_errno 2")
    verdict = payload_run.judge(exited(0, without), NONCE, "apptainer exec", dict, 20.0, False)
    assert (verdict.status, verdict.mode) == ("ok", "privileged")
    assert judge(exited(0, without)).reason == "runtime_config_invalid"


def test_the_lines_of_another_nonce_are_not_ours():
    assert payload_run.parse(GOOD, "ffff") == (False, [], None, {})


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 2**32 - 1)), max_size=5),
    st.integers(1, 4194304),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"]), min_size=1).map(
            lambda name: "/" + name
        ),
        st.integers(0, 133),
        max_size=5,
    ),
)
def test_what_the_payload_prints_is_read_back(uid_map, pid: int, paths: dict[str, int]):
    lines = [f"{NONCE} uid_map {a:>10} {b:>10} {c:>10}" for a, b, c in uid_map] + [f"{NONCE} pid {pid}"]
    lines += [f"{NONCE} path {error} {path}" for path, error in paths.items()] + [f"{NONCE} end"]
    assert payload_run.parse("\n".join(lines) + "\n", NONCE) == (
        True,
        [f"{a} {b} {c}" for a, b, c in uid_map],
        pid,
        paths,
    )


@given(st.text(), st.text())
def test_no_text_breaks_the_reading(before: str, after: str):
    assert payload_run.parse(GOOD + after, NONCE).complete
    assert payload_run.parse(before + GOOD + after, NONCE).pid == 7


@given(st.sampled_from(["path", "pid", "uid_map", "end", "x"]), st.text())
def test_no_value_breaks_the_reading(key: str, value: str):
    """The container's stdout is not ours alone: a broken image may print anything after the nonce that it was given."""
    payload_run.parse(f"{NONCE} {key} {value}\n", NONCE)


@pytest.mark.parametrize(
    ("uid_map", "mode"),
    [
        (["0 0 4294967295"], "privileged"),
        (["0 1001 1", "1 100000 65536"], "fakeroot"),
        (["1001 1001 1"], "unprivileged"),
        (["1001 0 1"], "unprivileged"),
        (["0"], None),
        ([], None),
    ],
)
def test_the_mode_is_read_from_the_first_line_of_the_map(uid_map, mode):
    assert payload_run.mode_of(uid_map) == mode


@pytest.mark.parametrize(
    ("outcome", "status", "reason", "message"),
    [
        (exited(0, GOOD), "ok", None, None),
        (exited(0, GOOD, "WARNING: something about a cgroup\n"), "ok", None, None),
        (exited(0, GOOD.replace(f"{NONCE} end\n", "")), "fail", "runtime_wrong_output", "the payload did not run"),
        (exited(0, ""), "fail", "runtime_wrong_output", "the payload did not run"),
        (
            exited(0, "", "FATAL:   could not open image /x: image format not recognized\n"),
            "fail",
            "image_invalid",
            "could not open",
        ),
        (exited(255, "", "FATAL:   while doing something unheard of\n"), "fail", "runtime_failed", "unheard of"),
        (exited(1, GOOD, ""), "fail", "runtime_failed", "exit code 1 without a message"),
        (
            exited(255, "", "FATAL:   container creation failed: no space left on device\n"),
            "fail",
            "scratch_full",
            "no space",
        ),
        (killed(signal.SIGSEGV), "fail", "runtime_crashed", "signal 11"),
        (
            killed(signal.SIGABRT, "runtime: failed to create new OS thread\n"),
            "fail",
            "resources_exhausted",
            "OS thread",
        ),
        (timed_out(), "timeout", "runtime_timeout", "within 20 s"),
        (not_started(errno.ENOEXEC), "fail", "runtime_not_executable", os.strerror(errno.ENOEXEC)),
    ],
)
def test_a_start_is_judged_by_exit_code_and_nonce(outcome, status, reason, message):
    verdict = judge(outcome)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert verdict.message is None if message is None else message in (verdict.message or "")


def test_a_mode_is_told_only_of_a_start_that_worked():
    assert judge(exited(0, GOOD)).mode == "privileged"
    assert judge(exited(1, GOOD)).mode is None


def test_a_verdict_becomes_a_check_with_its_evidence():
    row = judge(exited(255, "", "\x1b[31mFATAL:   \x1b[0mwhile x: no space left on device\n")).as_check("singularity")
    assert (row["id"], row["status"], row["reason"]) == ("singularity", "fail", "scratch_full")
    assert row["evidence"] == {
        "command": "apptainer exec",
        "exit_code": 255,
        "stderr": ["FATAL:   while x: no space left on device"],
    }
