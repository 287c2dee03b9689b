"""What a glidein binds into its containers."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest

from probe import binds
from tests.probe.samples import settings

DEFAULTS = ["/cvmfs", "/etc/hosts", "/etc/localtime"]


@pytest.mark.parametrize(
    ("glidein", "mount_dir", "expected"),
    [
        ({}, None, DEFAULTS),
        ({}, "/cvmfs", DEFAULTS),
        ({}, "/tmp/x/cvmfs", ["/tmp/x/cvmfs:/cvmfs", "/etc/hosts", "/etc/localtime"]),
        # Of two binds on one place the first counts: the glidein's own outweigh the others.
        ({"GLIDEIN_SINGULARITY_BINDPATH": "/a,/b:/cvmfs:ro"}, None, ["/a", "/b:/cvmfs:ro", *DEFAULTS]),
        (
            {"GLIDEIN_SINGULARITY_BINDPATH": "/a,,/cvmfs", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT": "/a,/d"},
            None,
            ["/a", "/cvmfs", "/d", "/etc/hosts", "/etc/localtime"],
        ),
    ],
)
def test_binds_of_a_glidein(glidein, mount_dir, expected):
    assert binds.requested(settings(glidein, cvmfs_mount_dir=mount_dir)) == expected


def test_the_source_of_a_bind():
    assert [binds.source_of(bind) for bind in ("/a", "/a:/b", "/a:/b:ro")] == ["/a"] * 3
