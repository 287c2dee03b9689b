"""The mount table, as the kernel writes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import mounts


def test_mountinfo_with_optional_fields_blanks_and_an_empty_super_block_option():
    text = (
        "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 propagate_from:2 - ext3 /dev/root rw,errors=continue\n"
        "40 1 0:42 / /cvmfs/a.example rw - fuse cvmfs2 ro\n"
        "41 1 0:43 / /empty rw -\n"
        "not a mount\n"
    )
    assert mounts.parse_mountinfo(text) == [
        {
            "root": "/mnt1",
            "point": "/mnt 2",
            "options": "rw,noatime",
            "type": "ext3",
            "source": "/dev/root",
            "super": "rw,errors=continue",
        },
        {"root": "/", "point": "/cvmfs/a.example", "options": "rw", "type": "fuse", "source": "cvmfs2", "super": "ro"},
    ]


def mount(point: str, kind: str = "proc", super_options: str = "rw") -> dict[str, str]:
    return {"root": "/", "point": point, "options": "rw", "type": kind, "source": kind, "super": super_options}


@pytest.mark.parametrize(
    ("table", "masked", "hidepid"),
    [
        ([mount("/proc")], [], None),
        ([mount("/proc"), mount("/proc/sys/fs/binfmt_misc", "autofs"), mount("/proc/fs/nfsd", "nfsd")], [], None),
        (
            [mount("/proc"), mount("/proc/keys", "tmpfs"), mount("/proc/acpi", "tmpfs")],
            ["/proc/acpi", "/proc/keys"],
            None,
        ),
        ([mount("/proc", super_options="rw,hidepid=2")], [], "2"),
        ([mount("/proc", super_options="rw,hidepid=invisible,gid=5")], [], "invisible"),
        ([mount("/proc", super_options="rw,hidepid=0")], [], None),
        ([mount("/proc", super_options="rw,hidepid=off")], [], None),
        ([mount("/process", "tmpfs")], [], None),
        ([], [], None),
    ],
)
def test_what_covers_proc(table: list[dict[str, str]], masked: list[str], hidepid: str | None):
    assert mounts.covering_proc(table) == {"masked": masked, "hidepid": hidepid}


TABLE = [
    mount("/", "ext4"),
    mount("/home", "nfs4"),
    mount("/home/scratch", "xfs"),
    mount("/cvmfs", "autofs"),
    mount("/cvmfs/a.example", "fuse"),
    mount("/data", "ext4"),
    mount("/data", "lustre"),
]


@pytest.mark.parametrize(
    ("path", "point", "local"),
    [
        ("/tmp", "/", True),
        ("/", "/", True),
        ("/home", "/home", False),
        ("/home/alice", "/home", False),
        ("/homestead", "/", True),
        ("/home/scratch/x", "/home/scratch", True),
        ("/cvmfs", "/cvmfs", False),
        ("/cvmfs/a.example/x", "/cvmfs/a.example", False),
    ],
)
def test_the_mount_that_holds_a_path(path: str, point: str, local: bool):
    found = mounts.holding(TABLE, path)
    assert found is not None
    assert found["point"] == point
    assert mounts.is_local(TABLE, path) == local


def test_the_later_of_two_mounts_at_one_place_covers_the_earlier():
    assert (mounts.holding(TABLE, "/data/x") or {})["type"] == "lustre"


@pytest.mark.parametrize(
    ("path", "mounts_it"), [("/cvmfs", False), ("/cvmfs/a.example/x", False), ("/cvmfs/b.example/x", True), ("/tmp", False)]
)
def test_what_an_automounter_mounts_when_it_is_touched(path: str, mounts_it: bool):
    assert mounts.is_mounted_by_touch(TABLE, path) == mounts_it


def test_without_a_table_nothing_is_taken_for_local():
    assert mounts.holding([], "/tmp") is None
    assert not mounts.is_local([], "/tmp")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
def test_a_mount_point_is_read_back_as_the_kernel_escapes_it(point: str):
    escaped = "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in "/" + point)
    found = mounts.parse_mountinfo(f"36 35 98:0 / {escaped} rw shared:1 - ext4 /dev/root rw\n")
    assert [row["point"] for row in found] == ["/" + point]
