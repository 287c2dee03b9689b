"""What the files of an image tell of its needs, fact by fact with evidence. Reads through a Tree only."""

import functools
import json
import re
import tomllib
from collections.abc import Iterator
from importlib import resources
from typing import Any, NamedTuple

from site_db.cuda import parse_version
from site_db.images.elf import LEVELS, NotElf, Program, parse_elf, parse_musl_version
from site_db.images.model import Fact
from site_db.images.oci import clean_labels, cuda_facts
from site_db.images.tree import TooLarge, Tree, folder, read

_BINARY_LIMIT = 64 << 20
_TEXT_LIMIT = 64 << 10
_LABELS_LIMIT = 1 << 20
# What a job certainly runs; the loader is found through them.
_PROGRAMS = ("/bin/sh", "/bin/bash", "/usr/bin/env", "/bin/ls", "/bin/cat", "/bin/busybox", "/usr/bin/python3")
_LIBRARY_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_MULTIARCH = re.compile(r"[a-z0-9_]+-linux-(?:gnu|musl)[a-z0-9]*")
_LIBRARIES = ("libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1")
_LOADER = re.compile(r"ld-(?:linux|musl)-?[a-z0-9_.-]*\.so\.[0-9]+|ld64\.so\.[0-9]")
_COMPAT = re.compile(r"libcuda\.so\.([0-9]{2,4}(?:\.[0-9]{1,4}){1,2})")
_CUDA_FOLDER = re.compile(r"cuda(?:-[0-9]{1,3}(?:\.[0-9]{1,3})?)?")
# One line of the files that `singularity build` makes of a Docker image's environment: export NAME="${NAME:-"VALUE"}".
_EXPORT = re.compile(r'\s*export ([A-Za-z_][A-Za-z0-9_]*)=(?:"\$\{\1:-"?([^"]*?)"?\}"|"([^"]*)"|\'([^\']*)\'|(\S*))\s*')


class Contents(NamedTuple):
    """Facts, and notes on what could not be used."""

    facts: dict[str, Fact]
    notes: list[str]


class Read(NamedTuple):
    """A binary that was read, and its path."""

    path: str
    program: Program
    data: bytes


def read_contents(tree: Tree) -> Contents:
    """All that the files of an image tell."""
    notes: list[str] = []
    attempt = _Attempt(tree, notes)
    facts: dict[str, Fact] = {}
    system = _os_facts(attempt)
    facts.update(system)
    binaries = list(_binaries(attempt))
    if not binaries:
        notes.append("no program or C library was found: what is it an image of?")
    facts.update(_arch(binaries, notes))
    facts.update(_libc(binaries))
    facts.update(_kernel(binaries))
    facts.update(_level(facts, binaries))
    facts.update(_cuda_inside(attempt))
    facts.update(_environment(attempt, notes))
    facts.update(_compat(attempt))
    facts.update(_labels(attempt))
    return Contents(facts, notes)


class _Attempt:
    """Reads files; what is too large is noted and counts as not there."""

    def __init__(self, tree: Tree, notes: list[str]) -> None:
        self.tree = tree
        self._notes = notes

    def bytes(self, path: str, limit_bytes: int) -> bytes | None:
        try:
            return read(self.tree, path, limit_bytes)
        except TooLarge as error:
            self._notes.append(str(error))
        except OSError as error:
            self._notes.append(f"{path}: {error.strerror}")
        return None

    def text(self, path: str, limit_bytes: int = _TEXT_LIMIT) -> str | None:
        data = self.bytes(path, limit_bytes)
        return None if data is None else data.decode("utf-8", "replace")

    def program(self, path: str) -> Read | None:
        data = self.bytes(path, _BINARY_LIMIT)
        if data is None or not data.startswith(b"\x7fELF"):
            return None
        try:
            return Read(path, parse_elf(data), data)
        except NotElf as error:
            self._notes.append(f"{path}: {error}")
        return None


def parse_os_release(text: str) -> dict[str, str]:
    """The assignments of os-release(5)."""
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(r"\s*([A-Z][A-Z0-9_]*)=(?:\"([^\"]*)\"|'([^']*)'|(\S*))\s*", line)
        if match:
            found[match[1]] = next((value for value in match.groups()[1:] if value is not None), "")
    return found


def _os_facts(attempt: _Attempt) -> dict[str, Fact]:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        text = attempt.text(path)
        if text is not None:
            values = parse_os_release(text)
            names = {"os_id": "ID", "os_version": "VERSION_ID", "os_name": "PRETTY_NAME"}
            return {
                name: Fact(values[field][:256], "read", f"{path}: {field}")
                for name, field in names.items()
                if values.get(field)
            }
    return {}


def _library_folders(tree: Tree) -> list[str]:
    found = []
    for path in _LIBRARY_FOLDERS:
        found.append(path)
        found += [f"{path}/{name}" for name in folder(tree, path) if _MULTIARCH.fullmatch(name)]
    return found


def _binaries(attempt: _Attempt) -> Iterator[Read]:
    """Programs, the loaders that they name, and the C library: each path once."""
    programs = [found for found in map(attempt.program, _PROGRAMS) if found]
    yield from programs
    loaders = {found.program.interpreter for found in programs if found.program.interpreter}
    folders = _library_folders(attempt.tree)
    if not loaders:
        loaders = {
            f"{place}/{name}" for place in folders for name in folder(attempt.tree, place) if _LOADER.fullmatch(name)
        }
    yield from (found for found in map(attempt.program, sorted(loaders)[:4]) if found)
    for name in _LIBRARIES:
        found = next((found for place in folders if (found := attempt.program(f"{place}/{name}"))), None)
        if found:
            yield found


def _arch(binaries: list[Read], notes: list[str]) -> dict[str, Fact]:
    known = [found for found in binaries if found.program.arch]
    if not known:
        return {}
    arches = {str(found.program.arch) for found in known}
    if len(arches) > 1:
        notes.append(f"binaries of several architectures: {', '.join(sorted(arches))}")
    return {"arch": Fact(known[0].program.arch, "read", f"{known[0].path}: ELF header")}


def _libc(binaries: list[Read]) -> dict[str, Fact]:
    libraries = [found for found in binaries if found.program.glibc]
    if libraries:
        newest = max(libraries, key=lambda found: found.program.glibc or ())
        text = ".".join(map(str, newest.program.glibc or ()))
        return {"libc": Fact(f"glibc {text}", "read", f"{newest.path}: the newest version that it defines")}
    for found in binaries:
        if "ld-musl" in found.path:
            version = parse_musl_version(found.data)
            return {"libc": Fact(f"musl {version}" if version else "musl", "read", f"{found.path}: its version text")}
    return {}


def _kernel(binaries: list[Read]) -> dict[str, Fact]:
    noted = [found for found in binaries if found.program.kernel]
    if not noted:
        return {}
    highest = max(noted, key=lambda found: found.program.kernel or ())
    return {"kernel": Fact(list(highest.program.kernel or ()), "read", f"{highest.path}: NT_GNU_ABI_TAG")}


def _level(facts: dict[str, Fact], binaries: list[Read]) -> dict[str, Fact]:
    arch = facts["arch"].value if "arch" in facts else None
    if arch != "x86_64":
        return {}
    noted = [found for found in binaries if found.program.microarch]
    if noted:
        highest = max(noted, key=lambda found: LEVELS.index(found.program.microarch or LEVELS[0]))
        source = f"{highest.path}: GNU_PROPERTY_X86_ISA_1_NEEDED"
        return {"microarch": Fact(highest.program.microarch, "read", source)}
    system, version = (facts[name].value if name in facts else "" for name in ("os_id", "os_version"))
    for row in tables()["levels"]:
        if system in row["ids"] and version.partition(".")[0] == row["version"]:
            return {"microarch": Fact(row["microarch"], "derived", f"no note, and {system} {version} is built for it")}
    return {"microarch": Fact(LEVELS[0], "derived", "no note in any binary that was read: the baseline")}


@functools.cache
def tables() -> dict[str, Any]:
    """data/images.toml."""
    return tomllib.loads(resources.files("site_db").joinpath("data/images.toml").read_text(encoding="utf-8"))


def parse_environment(text: str) -> dict[str, str]:
    """The plain assignments of a file in .singularity.d/env; whatever a shell would have to work out is left out."""
    found = {}
    for line in text.splitlines():
        match = _EXPORT.fullmatch(line)
        if match:
            value = next((value for value in match.groups()[1:] if value is not None), "")
            if "$" not in value and "`" not in value:
                found[match[1]] = value
    return found


def _environment(attempt: _Attempt, notes: list[str]) -> dict[str, Fact]:
    environment: dict[str, str] = {}
    sources = []
    for name in folder(attempt.tree, "/.singularity.d/env"):
        text = attempt.text(f"/.singularity.d/env/{name}") if name.endswith(".sh") else None
        if text is not None:
            sources.append(name)
            environment.update(parse_environment(text))
    if sources:
        return cuda_facts(environment, "/.singularity.d/env", notes)
    return {}


def _cuda_inside(attempt: _Attempt) -> dict[str, Fact]:
    path = "/usr/local/cuda/version.json"
    text = attempt.text(path)
    try:
        version = json.loads(text or "{}")["cuda"]["version"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    known = isinstance(version, str) and parse_version(version)
    return {"cuda_version": Fact(version, "read", path)} if known else {}


def _compat(attempt: _Attempt) -> dict[str, Fact]:
    found = {}
    for name in folder(attempt.tree, "/usr/local"):
        if not _CUDA_FOLDER.fullmatch(name):
            continue
        place = f"/usr/local/{name}/compat"
        for library in folder(attempt.tree, place):
            if match := _COMPAT.fullmatch(library):
                found[parse_version(match[1]) or ()] = Fact(match[1], "read", f"{place}/{library}: its name")
    return {"cuda_compat": found[max(found)]} if found else {}


def _labels(attempt: _Attempt) -> dict[str, Fact]:
    text = attempt.text("/.singularity.d/labels.json", _LABELS_LIMIT)
    return labels_fact(text, "/.singularity.d/labels.json") if text is not None else {}


def labels_fact(text: str, source: str) -> dict[str, Fact]:
    """The labels in a JSON text; none where it is none."""
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return {"labels": Fact(clean_labels(labels), "declared", source)} if isinstance(labels, dict) else {}
