"""The header and the table of contents of a SIF file. Pure.

The layout is that of SIF version 01 (sylabs/sif, apptainer/sif: pkg/sif/sif.go), little endian.
"""

import struct
from typing import NamedTuple

HEADER_BYTES = 128
# launch script, magic, version, arch, id; created, modified; descriptors: free, total, offset, length; data: offset, length
_HEADER = struct.Struct("<32s10s3s3s16s8q")
# type, used, id, group, link; offset, length, length with padding, created, modified, owner, group; name, extra
_DESCRIPTOR = struct.Struct("<i?III7q128s384s")
_PARTITION = struct.Struct("<ii3s")
_MAGIC = b"SIF_MAGIC\x00"
_DESCRIPTORS_LIMIT = 1024
_PARTITION_TYPE = 0x4004
_LABELS_TYPE = 0x4003
_PRIMARY_SYSTEM = 2
FILE_SYSTEMS = {1: "squashfs", 2: "ext3", 3: "archive", 4: "raw", 5: "encrypted squashfs"}
_ARCHES = {
    b"01": "i686",
    b"02": "x86_64",
    b"03": "armv7l",
    b"04": "aarch64",
    b"05": "ppc64",
    b"06": "ppc64le",
    b"11": "s390x",
    b"12": "riscv64",
}


class WrongSif(ValueError):
    """A malformed SIF file: `str(error)` says what is wrong."""


class Part(NamedTuple):
    """A piece of the file."""

    offset: int
    length: int


class Sif(NamedTuple):
    """What the header says. `arch` is what Apptainer compares with the machine; `labels` a piece of JSON, if there is one."""

    arch: str | None
    file_system: str
    root: Part
    labels: Part | None


def is_sif(head: bytes) -> bool:
    """Whether a file that begins so is a SIF."""
    return head[32:42] == _MAGIC


def descriptors_of(head: bytes, file_bytes: int) -> Part:
    """Where the table of contents lies. Raises WrongSif."""
    if len(head) < _HEADER.size or not is_sif(head):
        raise WrongSif("no SIF file")
    *_, total, offset, length, _data, _data_length = _HEADER.unpack_from(head)
    if not 0 < total <= _DESCRIPTORS_LIMIT:
        raise WrongSif("the number of its parts cannot be")
    part = Part(offset, total * _DESCRIPTOR.size)
    if length < part.length or not _is_inside(part, file_bytes):
        raise WrongSif("its table of contents lies outside the file")
    return part


def parse_sif(head: bytes, descriptors: bytes, file_bytes: int) -> Sif:
    """The parts that matter. Raises WrongSif."""
    root, labels, file_system, arch = None, None, "", None
    for fields in _DESCRIPTOR.iter_unpack(descriptors[: len(descriptors) // _DESCRIPTOR.size * _DESCRIPTOR.size]):
        kind, used, part, extra = fields[0], fields[1], Part(fields[5], fields[6]), fields[-1]
        if not used or kind not in (_PARTITION_TYPE, _LABELS_TYPE):
            continue
        if not _is_inside(part, file_bytes):
            raise WrongSif("one of its parts lies outside the file")
        if kind == _LABELS_TYPE:
            labels = part
            continue
        file_system_code, partition_type, arch_code = _PARTITION.unpack_from(extra)
        if partition_type == _PRIMARY_SYSTEM:
            root, file_system = part, FILE_SYSTEMS.get(file_system_code, "unknown")
            arch = _ARCHES.get(arch_code[:2])
    if root is None:
        raise WrongSif("it has no root file system")
    return Sif(arch or _ARCHES.get(_HEADER.unpack_from(head)[3][:2]), file_system, root, labels)


def _is_inside(part: Part, file_bytes: int) -> bool:
    return part.offset >= 0 and part.length >= 0 and part.offset + part.length <= file_bytes
