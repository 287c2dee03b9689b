"""Inspecting one image: a folder, a SIF, an OCI layout, archive or configuration. A program, too.

Images are hostile: the work is done in a process of its own with bounds on time and memory, so that whatever an image
does to a parser costs an error message and nothing else.
"""

import contextlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from site_db.errors import SiteDbError
from site_db.images.bounded_files import Unreadable, read_file
from site_db.images.contents import labels_fact, read_contents
from site_db.images.model import Fact, Requirements, from_dict
from site_db.images.oci import JSON_LIMIT, WrongImage, describe, parse_json, read_archive, read_layout
from site_db.images.sif import HEADER_BYTES, Part, Sif, WrongSif, descriptors_of, is_sif, parse_sif
from site_db.images.squashfs import SquashTree, Unlistable
from site_db.images.tree import FolderTree, size_on_disk

LIMIT_S = 120
_MEMORY_BYTES = 2 << 30
_CPU_S = 90
_SIZE_LIMIT_S = 30.0
_ANSWER_BYTES = 4 << 20
_LABELS_BYTES = 1 << 20
_TAR_MAGIC = slice(257, 262)
_REMEDY = "Give the folder of an image, a SIF, an OCI layout, archive or configuration."


class Uninspectable(SiteDbError):
    """What was given is no image that can be inspected."""


def inspect(path: Path, arch: str | None = None, limit_s: float = LIMIT_S) -> Requirements:
    """What the image at `path` needs; of several in one layout the one for `arch`. Raises Uninspectable."""
    command = [sys.executable, "-m", __name__, str(path), *([arch] if arch else [])]
    # The package may run from anywhere; the child has to find the same one.
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise Uninspectable(f"{path}: not done within {limit_s:.0f} s.", _REMEDY) from error
    finally:
        _end(child)
    if child.returncode != 0 or len(out) > _ANSWER_BYTES:
        lines = err.decode("utf-8", "replace").strip().splitlines()
        problem = lines[-1][:300] if lines else f"the inspection ended with {child.returncode}"
        raise Uninspectable(f"{path}: {problem}", _REMEDY)
    return from_dict(json.loads(out))


def _end(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # its children, too
    child.communicate()


def inspect_here(path: Path, arch: str | None = None) -> Requirements:
    """As `inspect`, in this process. Raises whatever the parts raise."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        if (path / "oci-layout").exists():
            return Requirements(*_plain(read_layout(path, arch)))
        return _of_folder(path)
    if not stat.S_ISREG(mode):
        raise WrongImage("neither a folder nor an ordinary file")
    with path.open("rb") as stream:
        head = stream.read(512)
    if is_sif(head):
        return _of_sif(path)
    if head[_TAR_MAGIC] == b"ustar":
        return Requirements(*_plain(read_archive(path, arch)))
    if head.lstrip()[:1] == b"{":
        return Requirements(*_plain(describe(parse_json(read_file(path, JSON_LIMIT), "the file"))))
    raise WrongImage("no image of a kind that is known here")


def _plain(found: tuple[dict[str, Fact], list[str]]) -> tuple[Mapping[str, Fact], tuple[str, ...]]:
    return found[0], tuple(found[1])


def _of_folder(path: Path) -> Requirements:
    facts, notes = read_contents(FolderTree(path))
    facts["kind"] = Fact("sandbox", "read", "the form of the image")
    size = size_on_disk(path, _SIZE_LIMIT_S)
    if size is None:
        notes.append("its size could not be told within the limits")
    else:
        facts["size_bytes"] = Fact(size, "read", "blocks on disk of all its files")
    return Requirements(facts, tuple(notes))


def _of_sif(path: Path) -> Requirements:
    size = path.stat().st_size
    facts = {
        "kind": Fact("sif", "read", "SIF header"),
        "size_bytes": Fact(size, "read", "size of the file"),
    }
    header = _read_header(path, size)
    notes: list[str] = []
    if header.file_system == "squashfs":
        try:
            facts = {**_of_squashfs(path, header.root, notes), **facts}
        except Unlistable as error:
            notes.append(str(error))
    else:
        notes.append(f"its file system ({header.file_system}) is not read here")
    if header.arch is not None:
        inside = facts.get("arch")
        if inside is not None and inside.value != header.arch:
            notes.append(f"its header says {header.arch}, its programs are {inside.value}")
        # By the header Apptainer decides whether it starts the image at all.
        facts["arch"] = Fact(header.arch, "read", "SIF header")
    if header.labels and "labels" not in facts:
        facts.update(labels_fact(_read_part(path, header.labels), "SIF labels"))
    return Requirements(facts, tuple(notes))


def _of_squashfs(path: Path, root: Part, notes: list[str]) -> dict[str, Fact]:
    facts, found_notes = read_contents(SquashTree(path, root.offset))
    notes += found_notes
    return facts


def _read_header(path: Path, size: int) -> Sif:
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
        table = descriptors_of(head, size)
        stream.seek(table.offset)
        return parse_sif(head, stream.read(table.length), size)


def _read_part(path: Path, part: Part) -> str:
    with path.open("rb") as stream:
        stream.seek(part.offset)
        return stream.read(min(part.length, _LABELS_BYTES)).decode("utf-8", "replace").rstrip("\x00")


def _bound() -> None:
    for limit, value in ((resource.RLIMIT_AS, _MEMORY_BYTES), (resource.RLIMIT_CPU, _CPU_S), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def main(arguments: list[str]) -> None:
    """Inspect the image that is named, print the facts as JSON; ends with 1 and a sentence on stderr where it can't."""
    _bound()
    problems: tuple[type[Exception], ...] = (OSError, WrongImage, WrongSif, Unreadable, Unlistable)
    try:
        found: dict[str, Any] = inspect_here(Path(arguments[0]), arguments[1] if arguments[1:] else None).to_dict()
    except problems as error:
        sys.exit(error.strerror if isinstance(error, OSError) and error.strerror else str(error))
    except MemoryError:
        sys.exit("it takes more memory than an inspection may have")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
