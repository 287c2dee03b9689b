"""The file tree inside a squashfs image, by squashfs-tools' `unsquashfs`: nothing is mounted, nothing needs privileges.

Every call is bounded in time; memory is bounded by the limits that the inspecting process sets for itself and its
children. Options are those of squashfs-tools 4.4 and later (EL9 has 4.4, which knows no -cat).
"""

import posixpath
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from site_db.images.tree import Entry

_CALL_LIMIT_S = 30
_ENTRIES_LIMIT = 400_000
# mode, owner, size (or device numbers), date, time, path [-> target]
_LINE = re.compile(r"([-dlcbps])\S{9} \S+ +(?:([0-9]+)|[0-9]+, *[0-9]+) \S+ \S+ squashfs-root(/.*)?")
# What may be asked for: the whole list of a large image would take more memory than the answer is worth.
_KEPT = re.compile(
    r"/(?:bin|sbin|etc|\.singularity\.d|lib[^/]*|usr(?:/(?:s?bin|lib[^/]*|local)(?:/.*)?)?)(?:/.*)?|/[^/]*"
)
_WILD = re.compile(r"[*?\[\]\\]")


class Unlistable(Exception):
    """The file system can't be read: `str(error)` says why."""


class SquashTree:
    """See tree.Tree. `listed_bytes`: the sizes of all its files, as listed."""

    def __init__(self, path: Path, offset: int) -> None:
        """Raises Unlistable."""
        self._path, self._offset = path, offset
        self._entries: dict[str, Entry] = {"/": Entry("folder")}
        self.listed_bytes = 0
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogateescape", newline="\n") as listing:
            done = self._unsquashfs(["-lln"], [], listing.fileno())
            listing.seek(0)
            for line in listing:
                self._take(line.rstrip("\n"))
        if done.returncode != 0 and len(self._entries) == 1:
            raise Unlistable(f"unsquashfs cannot read it: {_last_line(done.stderr)}")
        self._folders: dict[str, list[str]] = {}
        for path_inside in self._entries:
            head, tail = posixpath.split(path_inside)
            self._folders.setdefault(head, []).append(tail)

    def look(self, path: str) -> Entry | None:
        """See Tree."""
        return self._entries.get(path)

    def names(self, path: str) -> list[str]:
        """See Tree."""
        return [name for name in self._folders.get(path, []) if name]

    def content(self, path: str, size_bytes: int) -> bytes:
        """See Tree."""
        if _WILD.search(path):  # it would be a pattern there
            return b""
        with tempfile.TemporaryDirectory(prefix="image-") as folder:
            target = Path(folder, "out")
            self._unsquashfs(["-d", str(target)], [path.lstrip("/")], subprocess.DEVNULL)
            found = target / path.lstrip("/")
            # Only what we asked for was written, so no link stands before it.
            if not found.is_file() or found.is_symlink():
                return b""
            with found.open("rb") as stream:
                return stream.read(size_bytes)

    def _take(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        if not match:
            return
        letter, size, path = match[1], int(match[2] or 0), match[3] or "/"
        target = ""
        if letter == "l":
            path, _, target = path.partition(" -> ")
        if letter == "-":
            self.listed_bytes += size
        if _KEPT.fullmatch(path):
            if len(self._entries) >= _ENTRIES_LIMIT:
                raise Unlistable("too many files")
            kinds = {"-": "file", "d": "folder", "l": "link"}
            self._entries[path] = Entry(kinds.get(letter, "other"), size, target)  # type: ignore[arg-type]  # Kind

    def _unsquashfs(
        self, options: Sequence[str], wanted: Sequence[str], stdout: int
    ) -> subprocess.CompletedProcess[str]:
        program = shutil.which("unsquashfs")
        if program is None:
            raise Unlistable("unsquashfs is not installed (squashfs-tools)")
        queues = ["-no-progress", "-no-xattrs", "-processors", "1", "-da", "16", "-fr", "16"]
        command = [program, *queues, "-o", str(self._offset), *options, str(self._path), *wanted]
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=_CALL_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unlistable(f"unsquashfs gave no answer within {_CALL_LIMIT_S} s") from error


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it says nothing"
