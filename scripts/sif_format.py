"""Writes a SIF file that holds one squashfs: the least that Singularity and Apptainer accept as an image.

The layout is that of SIF version 01 as `apptainer build` writes it (studied with `apptainer sif header`), with one
descriptor in place of 48 and with the data in the first page that is free: loop devices want page-aligned data.
"""

import hashlib
import struct

_LAUNCH_SCRIPT = b"#!/usr/bin/env run-singularity\n"
_ARCHES = {"x86_64": b"02", "aarch64": b"04"}
_DATA_PARTITION = 0x4004
_GROUP_1 = 0xF0000001
_SQUASHFS = 1
_PRIMARY_SYSTEM = 2
_PAGE = 4096

# launch script, magic, version, arch, id; created, modified; descriptors: free, total, offset, length; data: offset,
# length
_HEADER = struct.Struct("<32s10s3s3s16s8q")
# type, used, id, group, link; offset, length, length with padding, created, modified, owner, group; name, extra
_DESCRIPTOR = struct.Struct("<i?III7q128s384s")
# file system, partition type, arch
_PARTITION = struct.Struct("<ii3s")


def build_sif(squashfs: bytes, arch: str, timestamp: int) -> bytes:
    """Wrap a squashfs image; arch as os.uname() names it (KeyError if unknown to us), timestamp in Unix seconds.

    The same input gives the same bytes: the image's id is a digest of its content.
    """
    padding = _PAGE - _HEADER.size - _DESCRIPTOR.size
    header = _HEADER.pack(
        _LAUNCH_SCRIPT,
        b"SIF_MAGIC",
        b"01",
        _ARCHES[arch],
        hashlib.sha256(squashfs).digest()[:16],
        timestamp,
        timestamp,
        0,
        1,
        _HEADER.size,
        _DESCRIPTOR.size,
        _PAGE,
        len(squashfs),
    )
    descriptor = _DESCRIPTOR.pack(
        _DATA_PARTITION,
        True,
        1,
        _GROUP_1,
        0,
        _PAGE,
        len(squashfs),
        padding + len(squashfs),
        timestamp,
        timestamp,
        0,
        0,
        b"image.squashfs",
        _PARTITION.pack(_SQUASHFS, _PRIMARY_SYSTEM, _ARCHES[arch]),
    )
    return header + descriptor + bytes(padding) + squashfs
