"""Reasons of failed namespace trials: step, errno and the kernel's knobs decide."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os

import pytest

from probe.detectors import namespaces
from tests.probe.samples import HUNG, died, done

APPARMOR = {"apparmor_restrict_unprivileged_userns": 1}


@pytest.mark.parametrize(
    ("kind", "step", "error", "knobs", "masked", "reason"),
    [
        ("user", "unshare user", errno.ENOSPC, {"max_user_namespaces": 0}, False, "userns_disabled"),
        ("user", "unshare user", errno.ENOSPC, {"max_user_namespaces": 15000}, False, "userns_limit_reached"),
        ("user", "unshare user", errno.EUSERS, {"max_user_namespaces": None}, False, "userns_limit_reached"),
        ("user", "unshare user", errno.EUSERS, {}, False, "userns_limit_reached"),
        ("user", "unshare user", errno.EPERM, {"unprivileged_userns_clone": 0}, False, "userns_disabled"),
        ("user", "unshare user", errno.EPERM, {"unprivileged_userns_clone": 0, **APPARMOR}, False, "userns_disabled"),
        (
            "user",
            "unshare user",
            errno.EPERM,
            {"unprivileged_userns_clone": 1, **APPARMOR},
            False,
            "userns_restricted_apparmor",
        ),
        ("user", "unshare user", errno.EACCES, APPARMOR, False, "userns_restricted_apparmor"),
        ("user", "unshare user", errno.EPERM, {"apparmor_restrict_unprivileged_userns": 0}, False, "userns_denied"),
        ("user", "unshare user", errno.EPERM, {}, False, "userns_denied"),
        ("user", "unshare user", errno.EINVAL, {}, False, "userns_unsupported"),
        ("user", "unshare user", errno.EINVAL, {"max_user_namespaces": 10}, False, "userns_unsupported"),
        ("user", "unshare user", errno.EINVAL, {"max_user_namespaces": 0}, False, "userns_disabled"),  # EL7
        ("user", "write setgroups", errno.EACCES, APPARMOR, False, "userns_restricted_apparmor"),
        ("user", "write setgroups", errno.EACCES, {}, False, "userns_map_denied"),
        ("user", "write uid_map", errno.EPERM, {}, False, "userns_map_denied"),
        ("user", "write gid_map", errno.EINVAL, APPARMOR, False, "userns_map_denied"),
        ("mount", "unshare user", errno.ENOSPC, {"max_user_namespaces": 0}, False, "userns_disabled"),
        ("mount", "unshare mount", errno.EPERM, APPARMOR, False, "userns_restricted_apparmor"),
        ("mount", "unshare mount", errno.EPERM, {}, False, "mount_denied"),
        ("mount", "unshare mount", errno.ENOSPC, APPARMOR, False, "mount_denied"),
        ("mount", "remount private", errno.EACCES, {}, False, "mount_denied"),
        ("mount", "mount tmpfs", errno.EPERM, {}, True, "mount_denied"),
        ("pid", "mount proc", errno.EPERM, {}, False, "proc_masked"),
        ("pid", "mount proc", errno.EPERM, {}, True, "proc_masked"),
        ("pid", "mount proc", errno.ENODEV, {}, False, "mount_denied"),
        ("pid", "unshare pid", errno.EPERM, {}, False, "pid_namespace_denied"),
        ("pid", "unshare pid", errno.ENOSPC, {}, False, "pid_namespace_denied"),
        ("ipc", "unshare ipc", errno.EPERM, {}, False, "ipc_namespace_denied"),
        ("net", "unshare net", errno.ENOSPC, {}, False, "net_namespace_denied"),
    ],
)
def test_step_errno_and_knobs_give_the_reason(kind, step, error, knobs, masked, reason):
    assert namespaces.explain_failure(kind, step, error, knobs, masked) == reason


def steps(*pairs: tuple[str, int]) -> list[dict[str, object]]:
    return [{"step": step, "errno": error} for step, error in pairs]


@pytest.mark.parametrize(
    ("result", "status", "reason", "error"),
    [
        (done(steps(("unshare user", 0), ("write uid_map", 0))), "ok", None, None),
        (done(steps(("unshare user", errno.ENOSPC))), "fail", "userns_limit_reached", errno.ENOSPC),
        (done(steps(("unshare user", errno.ENOSYS))), "unknown", "cannot_be_tried", errno.ENOSYS),
        (HUNG, "timeout", "deadline_reached", None),
        (died("MemoryError:  (namespaces.py:1)"), "unknown", "probe_error", None),
    ],
)
def test_a_trial_becomes_the_object_of_the_report(result, status, reason, error):
    found = namespaces._judge("user", result, {"max_user_namespaces": 100}, False)
    assert (found["status"], found["reason"], found["errno"], found["limit"]) == (status, reason, error, 100)
    assert (found["message"] is None) == (status == "ok")


def test_a_failed_step_is_told_in_words():
    result = done(steps(("unshare user", 0), ("write uid_map", errno.EPERM)))
    assert namespaces._judge("user", result, {}, False)["message"] == "write uid_map: " + os.strerror(errno.EPERM)


def test_knobs_that_are_absent_or_no_numbers_are_none(tmp_path):
    from probe.host import Host

    (tmp_path / "proc/sys/user").mkdir(parents=True)
    (tmp_path / "proc/sys/user/max_user_namespaces").write_text("0\n")
    (tmp_path / "proc/sys/user/max_pid_namespaces").write_text("many\n")
    found = namespaces.read_settings(Host({}, str(tmp_path)))
    assert found["max_user_namespaces"] == 0
    assert {name for name, value in found.items() if value is not None} == {"max_user_namespaces"}
