"""Where a glidein looks for Singularity, in its order, and what lies there.

The order is that of GlideinWMS (singularity_lib.sh, singularity_locate_bin). Each place is looked at in a child of its
own: a binary on a hung mount costs its own answer only. CVMFS is looked at when no other place has anything, as a
glidein does.
"""

import errno
import os
import re
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings
from probe.workers import Result

LOOK_LIMIT_S = 5.0

OASIS = "/cvmfs/oasis.opensciencegrid.org/mis"
NAMES = ("apptainer", "singularity")
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
    """The search order for this configuration; ``kind`` is file, folders (a PATH), file_or_folders or module."""
    # An empty PATH is one without folders; only a missing one has the system's default.
    path = environment.get("PATH", os.defpath)
    if settings.singularity:
        if "/" in settings.singularity:
            return [Place("option", "file", settings.singularity)]
        return [Place("option", "folders", path, (settings.singularity,))]
    found = []
    override = settings.configured("GLIDEIN_SINGULARITY_BINARY_OVERRIDE")
    if override:
        # A path list is meant when it is no executable file; the glidein tries singularity first there.
        names = ("singularity", "apptainer")
        found.append(Place("GLIDEIN_SINGULARITY_BINARY_OVERRIDE", "file_or_folders", override, names))
    suggested = settings.configured("SINGULARITY_BIN") or "PATH"
    oasis = settings.configured("OSG_SINGULARITY_BINARY") or OASIS + "/singularity/bin/singularity"
    if suggested == "OSG":
        found.append(Place("SINGULARITY_BIN:OSG", "file", oasis))
    elif suggested == "CONDOR":
        found.extend(_condor(settings, "SINGULARITY_BIN:CONDOR"))
    elif suggested not in ("PATH", "NONE"):
        found.append(Place("SINGULARITY_BIN", "folders", suggested, ("singularity", "apptainer")))
    found.append(Place("PATH", "folders", path, ("apptainer",)))
    found.append(Place("PATH", "folders", path, ("singularity",)))
    found.extend(_condor(settings, "condor"))
    if any(environment.get(name) for name in MODULE_VARIABLES):
        found.extend(Place("module", "module", name, ("singularity",)) for name in ("singularitypro", "singularity"))
    found.append(Place("cvmfs_oasis", "file", oasis))
    found.append(Place("cvmfs_oasis", "file", OASIS + "/apptainer/bin/apptainer"))
    return found


def _condor(settings: Settings, found_by: str) -> List[Place]:
    tarball = settings.configured("CONDOR_DIR") or settings.configured("GLIDEIN_WORK_DIR")
    return [Place(found_by, "file", os.path.join(tarball, "usr/libexec/apptainer"))] if tarball else []


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
    if place.kind in ("file", "file_or_folders") and os.path.isfile(place.where):
        return place.where
    if place.kind in ("folders", "file_or_folders"):
        for name in place.names:
            for folder in place.where.split(os.pathsep):
                path = os.path.join(folder, name)
                if folder and os.path.isfile(path) and os.access(path, os.X_OK):
                    return path
    return None


def _find_by_module(place: Place, host: Host) -> Optional[str]:
    # A glidein takes no other program. Its shell handed the function on, but dash, which may have started us, drops it.
    script = (
        'type module || . "$MODULESHOME/init/bash"; module load "$1"; type -P "$2" >&3'  # Tcl modules and Lmod alike
    )
    asked = host.run(["bash", "-c", "(" + script + ") 3>&1 >/dev/null 2>&1", "-", place.where, *place.names], LOOK_LIMIT_S - 1)
    if asked.state == "timeout":
        raise TimeoutError(errno.ETIMEDOUT, "module load does not answer")
    lines = asked.stdout.splitlines()
    return lines[0] if lines and lines[0].startswith("/") else None


def _installation(real: str) -> Dict[str, Any]:
    """Starter and configuration that belong to a binary, by the layouts of the packages (EL, Debian, tarball, 2.x)."""
    prefix = os.path.dirname(os.path.dirname(real))
    starters, configurations = [], []
    for product in NAMES:
        for library in ("libexec", "lib", "lib/{}-linux-gnu".format(os.uname().machine), "lib64"):
            base = os.path.join(prefix, library, product, "bin")
            starters += [os.path.join(base, "starter-suid"), os.path.join(base, "action-suid")]
        for folder in (os.path.join(prefix, "etc"), "/etc"):
            configurations.append(os.path.join(folder, product, product + ".conf"))
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
    """Each place with what lies there, for the detector ``runtimes``: found_by, where, looked (or None), hung, errno."""
    searched = places(settings, host.environment)
    first = [place for place in searched if place.found_by != "cvmfs_oasis"]
    rows = _look_at(first, host)
    if not any(row["looked"] for row in rows):
        rows += _look_at([place for place in searched if place.found_by == "cvmfs_oasis"], host)
    yield {"data": rows, "checks": []}


def _look_at(searched: List[Place], host: Host) -> List[Dict[str, Any]]:
    """Look at all places; at one and the same for another name only if it answered for the first."""
    first = {place.where: place for place in reversed(searched)}
    results = _look(list(first.values()), host)
    lost = {where for where, place in first.items() if results[place].state == "timeout"}
    results.update({place: results[first[place.where]] for place in searched if place.where in lost})
    results.update(_look([place for place in searched if place not in results], host))
    return [
        {
            "found_by": place.found_by,
            "where": place.where,
            "looked": results[place].value,
            "hung": _hung(results[place]),
            "errno": None if _hung(results[place]) else results[place].errno,
        }
        for place in searched
    ]


def _hung(result: Result) -> bool:
    return result.state == "timeout" or result.errno == errno.ETIMEDOUT


def _look(searched: List[Place], host: Host) -> Dict[Place, Result]:
    names = {place: "places.{}:{}".format(place.where, ",".join(place.names)) for place in searched}
    results = host.attempt_all(host.limit(LOOK_LIMIT_S, 0.3), {names[place]: [look, place, host] for place in searched})
    return {place: results[names[place]] for place in searched}


def unknown(_status: str, _reason: str, _message: str) -> List[Any]:
    """What ``runtimes`` gets where this detector never answered."""
    return []
