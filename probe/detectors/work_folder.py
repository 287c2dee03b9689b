"""This run's work folder, with our own image in it, in the first scratch folder that takes it."""

import os
import re
import stat
from typing import Any, Dict, Iterable, Iterator, List, Optional

from probe import minimal_image
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings

LIMIT_S = 4.0
# No run lasts as long. A process id would tell sooner, but not in another container that shares the folder.
FORGOTTEN_S = 3600.0
# Memory, where nothing else can be written: the container test is worth more than a tidy place.
LAST_RESORT = "/dev/shm"  # noqa: S108  a folder of our own is made in it


def place(folder: str, run_id: str) -> str:
    """Where a run's work folder lies in a scratch folder."""
    return os.path.join(folder, "singularity-probe-" + run_id)


def prepare(work_folder: str, arch: str) -> Dict[str, Any]:
    """Make a work folder with our own image in it, whole or not at all; raises OSError. May hang."""
    os.mkdir(work_folder, 0o700)
    try:
        return _fill(work_folder, arch)
    except OSError:
        remove([work_folder], [])
        raise


def prepare_first(folders: List[str], run_id: str, arch: str) -> Optional[Dict[str, Any]]:
    """Make it in the first folder that takes it, those that programs can be started from before the others; None where
    none does. May hang."""
    for _, folder in sorted(((_noexec(folder), folder) for folder in folders), key=lambda pair: pair[0]):
        try:
            return prepare(place(folder, run_id), arch)
        except OSError:  # full, read-only, not ours
            pass
    return None


def _noexec(folder: str) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    except OSError:
        return True


def _fill(work_folder: str, arch: str) -> Dict[str, Any]:
    made: Dict[str, Any] = {"work_folder": work_folder, "sandbox": None, "sif": None, "sif_zstd": None}
    if minimal_image.payload(arch) is None:
        return made
    made["sandbox"] = os.path.join(work_folder, "image")
    minimal_image.create_sandbox(made["sandbox"], arch)
    for key, compression in (("sif", "gzip"), ("sif_zstd", "zstd")):
        content = minimal_image.sif(arch, compression)
        if content is not None:
            made[key] = os.path.join(work_folder, compression + ".sif")
            with open(made[key], "wb") as stream:
                stream.write(content)
    return made


def remove(work_folders: List[str], traces: List[str]) -> None:
    """Remove work folders with what a killed start left in them, empty folders that were not there, and forgotten ones.

    May hang.
    """
    import shutil

    for work_folder in work_folders:
        shutil.rmtree(work_folder, ignore_errors=True)
    for path in traces:
        try:
            os.rmdir(path)
        except OSError:  # not made after all, or in use by somebody else meanwhile
            pass
    for work_folder in forgotten(os.path.dirname(work_folder) for work_folder in work_folders):
        shutil.rmtree(work_folder, ignore_errors=True)  # follows no link


def forgotten(folders: Iterable[str]) -> List[str]:
    """Our own work folders in these folders whose run is long over: it was killed before it could remove them."""
    import time

    found = []
    for folder in folders:
        for name in _names(folder):
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
            except OSError:  # gone meanwhile
                continue
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if ours and time.time() - status.st_mtime > FORGOTTEN_S:
                found.append(path)
    return found


def _names(folder: str) -> List[str]:
    try:
        return [name for name in os.listdir(folder) if re.match(r"singularity-probe-[0-9a-f]{16}\Z", name)]
    except OSError:
        return []


def detect(host: Host, _settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """Paths of the work folder and the images in it, None where there is none.

    Where no local folder took it yet: see the detector ``scratch``.
    """
    if earlier["scratch"]["work"]:
        yield {"data": earlier["scratch"]["work"], "checks": []}
        return
    arch = host.facts()["arch"]
    for folder in [*earlier["scratch"]["good"], LAST_RESORT]:
        result = host.attempt(
            "work_folder." + folder, host.limit(LIMIT_S, 0.3), prepare, place(folder, host.run_id), arch
        )
        if result.state == "done":
            yield {"data": dict(result.value), "checks": []}
            return
    yield {"data": unknown("", "", ""), "checks": []}


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """What other detectors get where there is no work folder."""
    return {"work_folder": None, "sandbox": None, "sif": None, "sif_zstd": None}
