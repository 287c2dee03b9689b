"""Where a glidein looks for Singularity, in its order, and what lies there.

The order is that of GlideinWMS (singularity_lib.sh, singularity_locate_bin) in 3.10.9 and later. Before, there was no
apptainer in HTCondor's tarball, and only singularity counted in the folder that SINGULARITY_BIN names; before 3.10.5 the
override was read from the environment only. Each folder is looked at in a child of its own: a binary on a hung mount
costs its own answer only.
"""

import errno
import os
import re
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from probe.engine import Findings
from probe.host import Host, cut_short
from probe.settings import Settings
from probe.workers import Result

LOOK_LIMIT_S = 5.0
# Lmod without a cache reads every modulefile of the site, and a full node takes its time; a glidein waits for ever.
MODULE_LIMIT_S = 10.0
# What an automounter begins with: the client starts, fetches its configuration and the root catalog.
MOUNT_LIMIT_S = 10.0

OVERRIDE = "GLIDEIN_SINGULARITY_BINARY_OVERRIDE"
OASIS = "/oasis.opensciencegrid.org/mis/singularity/bin/singularity"
NAMES = ("apptainer", "singularity")
ETC = "/etc"
# What says that there are environment modules: Lmod's and Tcl modules' variables, and a function that a shell exported.
MODULE_VARIABLES = ("LMOD_CMD", "MODULESHOME", "MODULEPATH", "BASH_FUNC_module%%", "BASH_FUNC_module()")

# What decides whether and how containers run; everything else in the file is left out of the report.
DECISIVE = [
    "allow setuid", "max loop devices", "allow pid ns", "allow ipc ns", "allow user ns", "enable overlay",
    "enable underlay", "mount proc", "mount sys", "mount home", "mount tmp", "mount hostfs", "user bind control",
    "allow container sif", "allow container squashfs", "allow container extfs", "allow container dir",
    "allow container encrypted", "limit container owners", "limit container groups", "limit container paths",
    "allow setuid-mount squashfs", "allow setuid-mount extfs", "allow setuid-mount encrypted", "autofs bug path",
    "always use nv", "always use rocm", "root default capabilities", "systemd cgroups", "sessiondir max size", "image driver",
]  # fmt: skip


class Place(NamedTuple):
    """One place of the search order: how it is named in the report, and where to look (folders for names, or a file)."""

    found_by: str
    kind: str
    where: str
    names: Tuple[str, ...] = NAMES


def places(settings: Settings, environment: Mapping[str, str]) -> List[Place]:
    """The search order for this configuration; ``kind`` is file, folder, folders (a PATH), file_or_folders or module."""
    # An empty PATH is one without folders; only a missing one has the system's default.
    path = environment.get("PATH", os.defpath)
    if settings.singularity:
        if "/" in settings.singularity:
            return [Place("option", "file", settings.singularity)]
        return [Place("option", "folders", path, (settings.singularity,))]
    found = []
    override = environment.get(OVERRIDE) or settings.configured(OVERRIDE)
    if override:
        # A path list is meant when it is no executable file; the glidein tries singularity first there.
        found.append(Place(OVERRIDE, "file_or_folders", override, NAMES[::-1]))
    # By the variable alone: glidein_config's value is read later (cvmfs_set_mount_dir).
    oasis = (environment.get("CVMFS_MOUNT_DIR") or "/cvmfs").rstrip("/") + OASIS
    oasis = settings.configured("OSG_SINGULARITY_BINARY") or oasis
    condor = _condor(settings)
    suggested = settings.configured("SINGULARITY_BIN") or "OSG"
    folders = {"OSG": re.sub("/singularity$", "", oasis), "CONDOR": condor and os.path.dirname(condor)}
    folder = folders.get(suggested, suggested)
    if folder and suggested not in ("PATH", "PASS", "NONE"):
        found_by = "SINGULARITY_BIN" + (":" + suggested if suggested in folders else "")
        found.append(Place(found_by, "folder", folder))
    found += [Place("PATH", "folders", path, (name,)) for name in NAMES]
    if condor:
        found.append(Place("condor", "file", condor))
    if any(environment.get(name) for name in MODULE_VARIABLES):
        found += [Place("module", "module", name, ("singularity",)) for name in ("singularitypro", "singularity")]
    return [*found, Place("cvmfs_oasis", "file", oasis)]


def _condor(settings: Settings) -> Optional[str]:
    """Apptainer in HTCondor's tarball, which is unpacked into "condor" of the glidein's main folder."""
    main = settings.configured("GLIDEIN_WORK_DIR")
    tarball = settings.configured("CONDOR_DIR") or (main and os.path.join(main, "condor"))
    return tarball and os.path.join(tarball, "usr/libexec/apptainer")


def look(place: Place, host: Host) -> Optional[Dict[str, Any]]:
    """What lies at one place, None when nothing does. May hang."""
    path = _find(place, host)
    if path is None:
        return None
    real = os.path.realpath(path)
    _read_head(real)
    facts = {"path": path, "real": real, "executable": os.access(real, os.X_OK)}
    facts.update(_installation(real))
    return facts


def _read_head(real: str) -> None:
    """Read what an exec reads first: a mount may know a file's name and not answer for its data."""
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # a program may be executable and not readable
        return
    try:
        os.read(descriptor, 64)
    except OSError:  # exec will tell
        pass
    finally:
        os.close(descriptor)


def _find(place: Place, host: Host) -> Optional[str]:
    if place.kind == "module":
        return _find_by_module(place, host)
    if place.kind.startswith("file") and os.path.isfile(place.where):
        return place.where
    if place.kind == "file_or_folders" and os.path.isdir(place.where):
        return place.where  # "-x" holds for a folder, too: the glidein tries to start it, and nothing in it
    for name in place.names if place.kind.startswith(("folder", "file_")) else ():
        for folder in [place.where] if place.kind == "folder" else place.where.split(os.pathsep):
            path = os.path.join(folder, name)
            if folder and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    return None


def _find_by_module(place: Place, host: Host) -> Optional[str]:
    # A glidein takes no other program. Its shell handed the function on, but dash, which may have started us, drops it.
    script = (
        'type module || . "$MODULESHOME/init/bash"; module load "$1"; type -P "$2" >&3'  # Tcl modules and Lmod alike
    )
    asked = host.run(
        ["bash", "-c", "(" + script + ") 3>&1 >/dev/null 2>&1", "-", place.where, *place.names], MODULE_LIMIT_S - 1
    )
    if asked.state == "timeout":
        raise TimeoutError(errno.ETIMEDOUT, "module load does not answer")
    lines = asked.stdout.splitlines()
    return lines[0] if lines and lines[0].startswith("/") else None


def _installation(real: str) -> Dict[str, Any]:
    """Starter and configuration that belong to a binary, by the layouts of the packages (EL, Debian, tarball, 2.x)."""
    prefix = os.path.dirname(os.path.dirname(real))
    libraries = ("libexec", "lib", "lib/{}-linux-gnu".format(os.uname().machine), "lib64")
    bases = {os.path.join(prefix, library, name, "bin"): name for name in NAMES for library in libraries}
    starters = [os.path.join(base, name) for base in bases for name in ("starter-suid", "action-suid")]
    # There may be another product's in /etc, too.
    own = [name for base, name in bases.items() if os.path.isdir(base)] or [os.path.basename(real)]
    within = [(os.path.join(prefix, "etc"), name) for name in NAMES] + [(ETC, name) for name in own]
    configurations = [os.path.join(folder, name, name + ".conf") for folder, name in within]
    return {
        "starter": next((_starter(path) for path in starters if os.path.exists(path)), None),
        "configuration": next((_configuration(path) for path in configurations if os.path.exists(path)), None),
    }


def _starter(path: str) -> Dict[str, Any]:
    found = os.stat(path)
    return {
        "path": path,
        "setuid": bool(found.st_mode & 0o4000),
        "owner": found.st_uid,
        "executable": os.access(path, os.X_OK),
        "nosuid": bool(os.statvfs(path).f_flag & os.ST_NOSUID),
    }


def _configuration(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return {"path": path, "values": parse_configuration(stream.read(1 << 20))}
    except OSError:
        return {"path": path, "values": {}}


def parse_configuration(text: str) -> Dict[str, str]:
    """apptainer.conf or singularity.conf: the decisive values, several lines of one name joined by commas."""
    values: Dict[str, str] = {}
    for name, value in re.findall(r"^[ \t]*([a-z][a-z -]*?)[ \t]*=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE):
        if name in DECISIVE:
            values[name] = values[name] + "," + value if name in values else value
    return values


def detect(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """Each place with what lies there, for the detector ``runtimes``: found_by, where, looked (or None), hung, errno.

    ``cut_short``: it may have answered if the deadline had left more time.
    """
    searched = places(settings, host.environment)
    groups: Dict[str, List[Place]] = {}
    for place in searched:
        groups.setdefault("places." + _folder(place), []).append(place)
    limits_s = {name: _limit(group[0]) for name, group in groups.items()}
    limits_s.update(dict.fromkeys(_automounted(host, groups), MOUNT_LIMIT_S))
    results: Dict[str, Result] = {}
    for wanted_s in set(limits_s.values()):
        calls = {
            name: [[look, place, host] for place in groups[name]] for name in groups if limits_s[name] == wanted_s
        }
        results.update(host.attempt_in_turn(host.limit(wanted_s, 0.3), calls))
    rows = []
    for place in searched:
        name = "places." + _folder(place)
        rows.append(_row(place, results[name], groups[name].index(place), limits_s[name]))
    yield {"data": rows, "checks": []}


def _automounted(host: Host, groups: Dict[str, List[Place]]) -> List[str]:
    """Those that are mounted by being looked at: a CVMFS repository on a node that has just begun."""
    text = host.read_or_none("/proc/self/mountinfo") or ""
    if " - autofs " not in text:
        return []
    from probe.mounts import is_mounted_by_touch, parse_mountinfo

    table = parse_mountinfo(text)
    return [name for name, group in groups.items() if is_mounted_by_touch(table, _folder(group[0]))]


def _folder(place: Place) -> str:
    """What one child looks at: a second place in a folder that hangs is not touched."""
    return os.path.dirname(place.where) if place.kind == "file" else place.where


def _limit(place: Place) -> float:
    return MODULE_LIMIT_S if place.kind == "module" else LOOK_LIMIT_S


def _row(place: Place, result: Result, number: int, limit_s: float) -> Dict[str, Any]:
    answer = result.value[number] if result.value else {"errno": result.errno}
    hung = result.state == "timeout" or answer.get("errno") == errno.ETIMEDOUT
    return {
        "found_by": place.found_by,
        "where": place.where,
        "looked": answer.get("value"),
        "hung": hung,
        "cut_short": result.state == "timeout" and cut_short(result, limit_s),
        "errno": None if hung else answer.get("errno"),
    }


def unknown(_status: str, _reason: str, _message: str) -> List[Any]:
    """What ``runtimes`` gives where this detector never answered."""
    return []
