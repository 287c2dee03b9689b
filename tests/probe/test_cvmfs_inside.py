"""CVMFS as a job sees it: what an automounter mounts after the container has started."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest

from probe.detectors import cvmfs_inside

# As the kernel writes them (Linux 6.18, an automounter in mount namespaces of all kinds).
LINE = "615 571 0:46 / /cvmfs rw,relatime {}- autofs lab rw,fd=5,pgrp=4072,timeout=0,minproto=5,maxproto=5,indirect"
FUSE = "\n623 615 0:48 / /cvmfs rw,nosuid - fuse cvmfs2 rw"


@pytest.mark.parametrize(
    ("mountinfo", "mount_dir", "private"),
    [
        (LINE.format("shared:12 "), "/cvmfs", False),
        (LINE.format("master:3 "), "/cvmfs", False),
        (LINE.format("shared:12 master:3 "), "/cvmfs", False),
        (LINE.format(""), "/cvmfs", True),
        (LINE.format("unbindable "), "/cvmfs", True),
        (LINE.format(""), "/tmp/cvmfs", False),
        (LINE.format("") + FUSE, "/cvmfs", False),  # the later of two at one place covers the earlier
        ("", "/cvmfs", False),
    ],
)
def test_a_private_automounters_mount_is_told_by_the_mount_table(mountinfo, mount_dir, private):
    assert cvmfs_inside.is_private(mountinfo, mount_dir) is private
