"""What a program or library asks of a machine, out of its ELF file (pyelftools). Pure."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection
from elftools.elf.segments import InterpSegment, NoteSegment

# Machine and class (bits) as uname -m names them.
_ARCHES = {
    ("EM_X86_64", 64): "x86_64",
    ("EM_386", 32): "i686",
    ("EM_AARCH64", 64): "aarch64",
    ("EM_ARM", 32): "armv7l",
    ("EM_PPC64", 64): "ppc64le",
    ("EM_S390", 64): "s390x",
    ("EM_RISCV", 64): "riscv64",
}
LEVELS = ("x86_64-v1", "x86_64-v2", "x86_64-v3", "x86_64-v4")
_GLIBC = re.compile(r"GLIBC_([0-9]{1,3})\.([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_MUSL = re.compile(rb"\x00([0-9]\.[0-9]{1,2}\.[0-9]{1,2})\x00")
_PARTS_LIMIT = 4096

Version = tuple[int, ...]


class NotElf(ValueError):
    """No ELF file, or a malformed one: `str(error)` says what is wrong."""


@dataclass(frozen=True)
class Program:
    """One ELF file. `arch` None: a machine that we don't know. `microarch`: the highest x86-64 level that its notes need.

    `kernel`: of its ABI note. `glibc`: the highest version that it defines itself, which only the C library does.
    `interpreter`: the loader that it names.
    """

    arch: str | None
    microarch: str | None = None
    kernel: Version | None = None
    glibc: Version | None = None
    interpreter: str | None = None


def parse_elf(data: bytes) -> Program:
    """The needs of one ELF file. Raises NotElf."""
    if not data.startswith(b"\x7fELF"):
        raise NotElf("no ELF file")
    try:
        return _parse(data)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - malformed files make pyelftools raise whatever its steps end in
        problem = type(error).__name__
    raise NotElf(f"malformed ELF file ({problem})")


def parse_musl_version(data: bytes) -> str | None:
    """The version of musl, out of the text that its loader prints; None where there is not exactly one."""
    found = set(_MUSL.findall(data))
    return found.pop().decode() if len(found) == 1 else None


def _parse(data: bytes) -> Program:
    elf = ELFFile(io.BytesIO(data))
    arch = _ARCHES.get((elf["e_machine"], elf.elfclass))
    if arch == "ppc64le" and not elf.little_endian:
        arch = "ppc64"
    notes = list(_notes(elf))
    kernel = [_kernel(note["n_desc"]) for note in notes if note["n_type"] == "NT_GNU_ABI_TAG"]
    return Program(
        arch=arch,
        microarch=_level(notes) if arch == "x86_64" else None,
        kernel=max((version for version in kernel if version), default=None),
        glibc=_defined_glibc(elf),
        interpreter=next(_interpreters(elf), None),
    )


def _notes(elf: ELFFile) -> Iterator[Any]:
    for number, segment in enumerate(elf.iter_segments()):
        if number > _PARTS_LIMIT:
            raise NotElf("too many segments")
        if isinstance(segment, NoteSegment):
            yield from (note for note in segment.iter_notes() if note["n_name"] == "GNU")


def _interpreters(elf: ELFFile) -> Iterator[str]:
    for segment in elf.iter_segments():
        if isinstance(segment, InterpSegment):
            yield segment.get_interp_name()


def _kernel(description: Any) -> Version | None:  # noqa: ANN401 - what pyelftools gives
    if description["abi_os"] != "ELF_NOTE_OS_LINUX":
        return None
    return description["abi_major"], description["abi_minor"], description["abi_tiny"]


def _level(notes: list[Any]) -> str | None:
    """The highest level of the property ISA_1_NEEDED: a bit a level (x86-64 psABI, "Program Property")."""
    needed = 0
    for note in notes:
        if note["n_type"] == "NT_GNU_PROPERTY_TYPE_0":
            for item in note["n_desc"]:
                if item["pr_type"] == "GNU_PROPERTY_X86_ISA_1_NEEDED" and isinstance(item["pr_data"], int):
                    needed |= item["pr_data"]
    bits = needed & 0b1111
    return LEVELS[bits.bit_length() - 1] if bits else None


def _defined_glibc(elf: ELFFile) -> Version | None:
    section = elf.get_section_by_name(".gnu.version_d")
    if not isinstance(section, GNUVerDefSection):
        return None
    versions = []
    for number, (_, names) in enumerate(section.iter_versions()):
        if number > _PARTS_LIMIT:
            raise NotElf("too many versions")
        matches = [_GLIBC.fullmatch(name.name) for name in names]
        versions += [tuple(int(part) for part in match.groups() if part) for match in matches if match]
    return max(versions, default=None)
