"""The single file's modules as bytecode, kept between the runs of one glidein: two thirds of a start are spent compiling.

One file in the folder where runs remember things (keeper.py): a checksum, whose it is (this Python, this build), and the
modules. What is damaged or of others is as if it were not there. It is read in the run's own process: the program itself
has just been read from the same glidein's folder.
"""

import marshal
import os
import sys
import zlib

from probe.keeper import is_own

FILE = "modules"
TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all that happens here
    from typing import Any, Dict, Optional


def install(folder: str) -> None:
    """Import modules of the probe from the folder's cache, if it is there and good."""
    loader = _single_file()
    if loader is None:
        return
    try:
        if not is_own(folder):
            return
        with open(os.path.join(folder, FILE), "rb") as stream:
            content = stream.read()
        if int(content[:8], 16) != zlib.crc32(content[8:]):
            return
        owner, codes = marshal.loads(content[8:])  # noqa: S302  in a folder that is ours alone
        if owner == _owner(loader):
            sys.meta_path.insert(0, _Finder(codes, loader))
    except (OSError, ValueError, EOFError, TypeError):
        pass


def save(folder: str) -> None:
    """Compile all modules of the single file that runs, and keep them; raises OSError. Does nothing in a checkout."""
    loader = _single_file()
    if loader is None or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    import zipfile

    codes: Dict[str, Any] = {}
    with zipfile.ZipFile(loader.archive) as archive:
        for path in archive.namelist():
            if path.startswith("probe/") and path.endswith(".py"):
                name = path[:-3].replace("/", ".").partition(".__init__")[0]
                code = compile(archive.read(path), os.path.join(loader.archive, path), "exec", dont_inherit=True)
                codes[name] = (path.endswith("/__init__.py"), path, marshal.dumps(code))
    body = marshal.dumps((_owner(loader), codes))
    part = os.path.join(folder, FILE + ".part")
    with open(part, "wb") as stream:
        stream.write("{:08x}".format(zlib.crc32(body)).encode() + body)
    os.rename(part, os.path.join(folder, FILE))


def _single_file() -> "Any":
    """The single file's loader; None in a checkout, and where the folder may be on what hangs: it is read here."""
    loader = sys.modules["probe"].__loader__
    return loader if hasattr(loader, "archive") and not os.environ.get("PROBE_STATE") else None


def _owner(loader: "Any") -> "Any":
    found = os.stat(loader.archive)
    return sys.version, found.st_size, found.st_mtime_ns


class _Finder:
    """Finds and loads modules by name among the kept ones."""

    def __init__(self, codes: "Dict[str, Any]", loader: "Any") -> None:
        self._codes, self._loader = codes, loader

    def find_spec(self, name: str, _path: "Any" = None, _target: "Any" = None) -> "Optional[Any]":
        """importlib's question for a module."""
        if name not in self._codes:
            return None
        package, path, _ = self._codes[name]
        make: Any = type(sys.__spec__)
        spec = make(name, self, origin=os.path.join(self._loader.archive, path), is_package=package)
        spec.has_location = True
        return spec

    def create_module(self, _spec: "Any") -> None:
        """importlib makes an ordinary one."""

    def exec_module(self, module: "Any") -> None:
        """Fill a module."""
        exec(marshal.loads(self._codes[module.__name__][2]), module.__dict__)  # noqa: S102, S302  our own, checked

    def get_data(self, path: str) -> "Any":
        """Packed data come from the single file."""
        return self._loader.get_data(path)
