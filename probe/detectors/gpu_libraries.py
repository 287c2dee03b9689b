"""The driver's libraries on the host: their version, and the newest C library that they need.

Singularity's --nv and --rocm bring the host's libraries into the image, found in the loader's cache; there they meet
the image's C library. Which symbols they need stands in .gnu.version_r; few pages of each file are read, in a child.
"""

import os
import re
import struct
from typing import Any, Callable, Dict, List, Optional, Tuple

CACHE = "/etc/ld.so.cache"
CACHE_LIMIT_BYTES = 16 * 1024 * 1024
MAGIC = b"glibc-ld.so.cache1.1"
HEADER_BYTES, ENTRY_BYTES = 48, 24
# glibc, ldconfig.h: the architecture, and 3 for an ELF file of the present C library.
FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03, "ppc64le": 0x0503}
# NVIDIA's own, after nvliblist.conf of Apptainer 1.4.5; distributions build those for EGL themselves.
DRIVER = re.compile(
    r"lib(cuda|cudadebugger|nvcuvid|nvoptix|nvidia-(?!egl-)[\w-]+|(GLX|EGL|GLESv1_CM|GLESv2|vdpau)_nvidia)\.so(\.|$)"
)
# Brought in by --nv too, and any vendor's: these broke images first (apptainer issue 598). What only computes takes none.
DISPLAY = re.compile(r"lib(GL|EGL|GLX|GLdispatch|GLESv1_CM|GLESv2|OpenGL|OpenCL)\.so(\.|$)")
LIBRARIES_LIMIT = 128

PT_LOAD, PT_DYNAMIC = 1, 2
DT_STRTAB, DT_VERNEED, DT_VERNEEDNUM = 5, 0x6FFFFFFE, 0x6FFFFFFF
CHUNK_BYTES = 64 * 1024
# The loader of glibc 2.36 was the first to read these (its NEWS); they are a "version" of libc.so.6 without a number.
RELATIVE_RELOCATIONS = "GLIBC_ABI_DT_RELR"

Read = Callable[[int, int], bytes]
Version = Tuple[int, ...]


def parse_cache(data: bytes, arch: str) -> Dict[str, str]:
    """{name: path} of /etc/ld.so.cache, the first of each name as the loader takes it; nothing for another format."""
    start = data.find(MAGIC)
    wanted = FLAGS.get(arch)
    if start < 0 or wanted is None or len(data) < start + HEADER_BYTES:
        return {}
    found: Dict[str, str] = {}
    (count,) = struct.unpack_from("<I", data, start + len(MAGIC))
    last = (len(data) - start - HEADER_BYTES) // ENTRY_BYTES
    for number in range(min(count, last)):
        flags, name, path = struct.unpack_from("<iII", data, start + HEADER_BYTES + number * ENTRY_BYTES)
        if flags == wanted:
            found.setdefault(_text(data, start + name), _text(data, start + path))
    return found


def _text(data: bytes, start: int) -> str:
    return data[start : data.find(b"\0", start, start + 4096)].decode("utf-8", "replace")


def needed_versions(read: Read) -> List[str]:
    """The versions that an ELF file (64 bits, little-endian) needs of others; raises struct.error where it is cut short.

    ``read(offset, length)`` gives bytes of the file. Nothing for a file of another kind, or one without versions.
    """
    head = read(0, 64)
    if head[:6] != b"\x7fELF\x02\x01":
        return []
    (table,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    rows = read(table, size * min(count, 64))
    segments = [struct.unpack_from("<IIQQQQ", rows, number * size) for number in range(min(count, 64))]
    dynamic = next(([row[2], row[5]] for row in segments if row[0] == PT_DYNAMIC), None)
    if dynamic is None:
        return []
    entries = read(dynamic[0], min(dynamic[1], CHUNK_BYTES))
    values = dict(struct.unpack_from("<QQ", entries, at) for at in range(0, len(entries) - 15, 16))
    if DT_VERNEED not in values or DT_STRTAB not in values:
        return []
    needs = read(_offset(segments, values[DT_VERNEED]), CHUNK_BYTES)
    names = _offset(segments, values[DT_STRTAB])
    return [_name(read, names + at) for at in _name_places(needs, min(values.get(DT_VERNEEDNUM, 0), 64))]


def _offset(segments: List[Tuple[int, ...]], address: int) -> int:
    """Where in the file an address of the loaded library lies."""
    for kind, _, offset, start, _, length in segments:
        if kind == PT_LOAD and start <= address < start + length:
            return offset + address - start
    raise struct.error("an address outside of all segments")


def _name_places(needs: bytes, files: int) -> List[int]:
    """The places of version names in the string table, from Verneed and Vernaux records."""
    places, at = [], 0
    for _ in range(files):
        _, count, _, first, following = struct.unpack_from("<HHIII", needs, at)
        inner = at + first
        for _ in range(min(count, 256)):
            _, _, _, name, step = struct.unpack_from("<IHHII", needs, inner)
            places.append(name)
            inner += step
        at += following
    return places


def _name(read: Read, offset: int) -> str:
    return read(offset, 64).split(b"\0")[0].decode("ascii", "replace")


def glibc_version(name: str) -> Optional[Version]:
    """GLIBC_2.27 is (2, 27); None for private ones and those of other libraries."""
    if name == RELATIVE_RELOCATIONS:
        return (2, 36)
    match = re.match(r"GLIBC_(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?$", name)
    return tuple(int(word) for word in match.groups() if word) if match else None


def parse_version(text: Optional[str]) -> Optional[Version]:
    """The version in "glibc 2.36" or "2.36"; None where there is none, or it is another C library's."""
    match = re.match(r"(?:glibc )?(\d{1,4})\.(\d{1,4})", text or "")
    return tuple(int(word) for word in match.groups()) if match else None


def highest(names: List[str]) -> Optional[str]:
    """The newest of GLIBC_ names, as "2.27"; None where none is."""
    found = [version for version in map(glibc_version, names) if version]
    return ".".join(map(str, max(found))) if found else None


def read_needs(path: str) -> List[str]:
    """needed_versions of a file. May hang; nothing where it cannot be read or understood."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    try:
        return needed_versions(lambda offset, length: os.pread(descriptor, length, offset))
    except (OSError, OverflowError, struct.error):
        return []
    finally:
        os.close(descriptor)


def examine(folders: List[str], arch: str, cache: str = CACHE) -> Dict[str, Any]:
    """The driver's libraries that the loader would take, those in LD_LIBRARY_PATH first. May hang.

    Returns version (of libcuda's file name, None where it has none), driver_glibc and display_glibc ("2.27" or None).
    """
    try:
        with open(cache, "rb") as stream:
            paths = parse_cache(stream.read(CACHE_LIMIT_BYTES), arch)
    except OSError:
        paths = {}
    for folder in reversed(folders):
        paths.update({name: os.path.join(folder, name) for name in _listed(folder)})
    names = sorted(name for name in paths if DRIVER.match(name) or DISPLAY.match(name))[:LIBRARIES_LIMIT]
    needs = {name: read_needs(paths[name]) for name in names}
    return {
        "version": file_version(os.path.realpath(paths["libcuda.so.1"])) if "libcuda.so.1" in paths else None,
        "driver_glibc": highest([need for name in names if DRIVER.match(name) for need in needs[name]]),
        "display_glibc": highest([need for name in names if not DRIVER.match(name) for need in needs[name]]),
    }


def _listed(folder: str) -> List[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def file_version(path: str) -> Optional[str]:
    """The driver's version in libcuda.so.550.54.15; None for a name without one."""
    match = re.search(r"\.so\.(\d{2,}\.\d+(?:\.\d+)?)$", path)
    return match.group(1) if match else None
