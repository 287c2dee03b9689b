"""Importing from the single file, each module compiled once.

zipimport compiles a module to tell its file's name, and once more to load it (``zipimporter.get_filename``; Python 3.6 to
3.13, seen). Half of a start went into that.
"""

import sys
from zipimport import zipimporter


class Importer(zipimporter):
    """The same, but for the name."""

    def get_filename(self, fullname: str) -> str:
        """The file of a module."""
        ending = "/__init__.py" if self.is_package(fullname) else ".py"
        return "{}/{}{}{}".format(self.archive, self.prefix, fullname.rpartition(".")[2], ending)


def install() -> None:
    """Import what is not imported yet this way; does nothing in a checkout."""
    sys.path_hooks[:] = [Importer if hook is zipimporter else hook for hook in sys.path_hooks]
    for entry, finder in list(sys.path_importer_cache.items()):
        if type(finder) is zipimporter:
            sys.path_importer_cache[entry] = Importer(entry)
