"""The table of detectors: one row each, those that others need first. A new detector is a file and a row here.

Modules are imported when their detector runs, in its own child: from the single file each import compiles its source,
and so they are compiled side by side.
"""

import sys
from typing import Any, Callable, Iterator, Tuple

from probe.engine import Detector


def _module(name: str) -> Any:
    path = "probe.detectors." + name
    __import__(path)
    return sys.modules[path]


def _row(name: str, module: str, needs: Tuple[str, ...] = ()) -> Detector:
    def detect(*arguments: Any) -> Iterator[Any]:
        return _module(module).detect(*arguments)  # type: ignore[no-any-return]  # each detector's own function

    unknown: Callable[..., Any] = lambda *arguments: _module(module).unknown(*arguments)  # noqa: E731  as short as it is
    return Detector(name, detect, unknown, needs, lambda: _module(module))


DETECTORS = [
    _row("places", "places"),
    _row("scratch", "scratch"),
    _row("runtimes", "runtimes", ("places", "scratch")),
    _row("work_folder", "work_folder", ("scratch",)),
    _row("namespaces", "namespaces"),
    _row("host", "machine", ("scratch",)),
    _row("cvmfs", "cvmfs"),
    _row("gpus", "gpus"),
    _row("network", "network"),
    _row("credentials", "credentials"),
    _row("singularity", "singularity", ("runtimes", "scratch", "work_folder", "namespaces")),
    _row("cvmfs_inside", "cvmfs_inside", ("work_folder", "cvmfs", "singularity")),
    _row("images", "images", ("work_folder", "cvmfs", "singularity")),
]
