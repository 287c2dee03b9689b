"""Images given by name: where they are looked for, and what their shell answers."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno

import pytest

from probe.detectors import images
from tests.probe.samples import exited, killed, not_started, settings, timed_out


@pytest.mark.parametrize(
    ("given", "dictionary", "expected"),
    [
        ([], "", []),
        (["/a", "docker://b", "/a"], "", ["/a", "docker://b"]),
        ([], "rhel8:/cvmfs/x,rhel9:/cvmfs/y", ["/cvmfs/x", "/cvmfs/y"]),
        (["/cvmfs/y"], "rhel8: /cvmfs/x ,default:/cvmfs/y,,broken", ["/cvmfs/y", "/cvmfs/x"]),
        ([], "a:docker://h:5000/x", ["docker://h:5000/x"]),
    ],
)
def test_the_images_to_try(given, dictionary, expected):
    assert images.references(settings({"SINGULARITY_IMAGES_DICT": dictionary}, images=given)) == expected


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("docker://a/b", "registry"),
        ("oras://x", "registry"),
        ("/a.sif", "path"),
        ("relative", "path"),
        ("/a://b", "path"),
    ],
)
def test_a_url_is_a_registry_image(reference, kind):
    assert images.kind_of_reference(reference) == kind


@pytest.mark.parametrize(
    ("reference", "mount_dir", "path"),
    [
        ("/cvmfs/a/b", "/cvmfs", "/cvmfs/a/b"),
        ("/cvmfs/a/b", "/tmp/c", "/tmp/c/a/b"),
        ("/cvmfs2/a", "/tmp/c", "/cvmfs2/a"),
        ("/data/x.sif", "/tmp/c", "/data/x.sif"),
    ],
)
def test_cvmfs_stands_for_wherever_it_is_mounted(reference, mount_dir, path):
    assert images.place(reference, mount_dir) == path


NONCE = "9f"
ANSWER = (
    f"{NONCE} arch x86_64\n{NONCE} libc glibc 2.34\n{NONCE} uid_map 0 0 1\n"
    f'{NONCE} os ID="rocky"\n{NONCE} os VERSION_ID="9.4"\n{NONCE} os NAME="Rocky Linux"\n{NONCE} end\n'
)
ROCKY = {"id": "rocky", "version_id": "9.4", "name": "Rocky Linux"}


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        (ANSWER, (True, "x86_64", "glibc 2.34", ROCKY)),
        ("noise\r\n" + ANSWER.replace("\n", "\r\n"), (True, "x86_64", "glibc 2.34", ROCKY)),
        (
            f"{NONCE} arch x86_64\n{NONCE} libc \n{NONCE} musl /lib/ld-musl-x86_64.so.1\n{NONCE} end\n",
            (True, "x86_64", "musl", None),
        ),
        (f"{NONCE} arch \n{NONCE} libc \n{NONCE} end\n", (True, None, None, None)),
        (f"{NONCE} arch x86_64\n", (False, "x86_64", None, None)),
        ("", (False, None, None, None)),
    ],
)
def test_the_shells_answer_is_read(stdout, expected):
    found = images.parse_answer(stdout, NONCE)
    assert (found["complete"], found["arch"], found["libc"], found["os"]) == expected


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (exited(0, ANSWER), "ok", None),
        (exited(0, ""), "fail", "image_start_failed"),
        (exited(255, "", "FATAL:   stat /bin/sh: no such file\n"), "fail", "image_start_failed"),
        (exited(255, "", "FATAL:   while extracting: no space left on device\n"), "fail", "scratch_full"),
        (exited(1, "", "FATAL: kernel too old\n"), "fail", "image_needs_newer_kernel"),
        (exited(255, "", "/bin/sh: exec format error\n"), "fail", "image_wrong_arch"),
        (
            exited(
                127,
                "",
                "/bin/sh: CPU ISA level is lower than required\nFatal glibc error: CPU does not support x86-64-v3\n",
            ),
            "fail",
            "image_needs_newer_cpu",
        ),
        (killed(9), "fail", "image_start_failed"),
        (not_started(errno.ENOENT), "fail", "image_start_failed"),
        (timed_out(), "timeout", "runtime_timeout"),
    ],
)
def test_a_start_of_an_image_is_judged(outcome, status, reason):
    row = images.judge(outcome, NONCE)
    assert (row["status"], row["reason"]) == (status, reason)
    assert (row["message"] is None) == (status == "ok")


@pytest.mark.parametrize(
    ("error", "on_cvmfs", "reason"),
    [
        (errno.ENOENT, True, "image_missing"),
        (errno.ELOOP, False, "image_missing"),
        (errno.ENOTCONN, True, "cvmfs_disconnected"),
        (errno.ENOTCONN, False, "image_unreadable"),
        (errno.EIO, True, "image_unreadable"),
        (errno.EACCES, False, "image_unreadable"),
        (None, False, "image_unreadable"),
    ],
)
def test_why_an_image_cannot_be_looked_at(error, on_cvmfs, reason):
    found, message = images._reason_of_errno(error, on_cvmfs)
    assert found == reason
    assert message


def test_kinds_of_images_are_told_by_looking(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.sif").write_bytes(b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    kinds = {name: images.look(str(tmp_path / name)) for name in ("folder", "x.sif", "text", "link", "no", "loop")}
    assert {name: found.get("kind") for name, found in kinds.items()} == {
        "folder": "sandbox",
        "x.sif": "sif",
        "text": None,
        "link": "sandbox",
        "no": None,
        "loop": None,
    }
    assert (kinds["no"]["errno"], kinds["link"]["real"]) == (errno.ENOENT, str(tmp_path / "folder"))
