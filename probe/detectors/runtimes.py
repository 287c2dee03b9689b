"""Singularity and Apptainer installations: every place where a glidein looks, in its order, and what lies there.

The order is that of GlideinWMS (singularity_lib.sh, singularity_locate_bin). Each place is looked at in a child of its
own: a binary on a hung mount costs its own answer only.
"""

import errno
import os
import re
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from probe.checks import Check, check, decisive_lines
from probe.engine import Findings
from probe.host import Host
from probe.process import Outcome
from probe.settings import Settings
from probe.workers import Result

LOOK_LIMIT_S = 5.0
VERSION_LIMIT_S = 8.0

OASIS = "/cvmfs/oasis.opensciencegrid.org/mis"
NAMES = ("apptainer", "singularity")

# What decides whether and how containers run; everything else in the file is left out of the report.
DECISIVE = [
    "allow setuid", "max loop devices", "allow pid ns", "enable overlay", "enable underlay", "mount proc", "mount sys",
    "mount home", "mount tmp", "mount hostfs", "user bind control", "allow container sif", "allow container squashfs",
    "allow container extfs", "allow container dir", "allow container encrypted", "limit container owners",
    "limit container groups", "limit container paths", "allow setuid-mount squashfs", "allow setuid-mount extfs",
    "allow setuid-mount encrypted", "autofs bug path", "always use nv", "always use rocm", "root default capabilities",
    "systemd cgroups", "sessiondir max size", "image driver",
]  # fmt: skip


class Place(NamedTuple):
    """One place of the search order: how it is named in the report, and where to look (folders for names, or a file)."""

    found_by: str
    kind: str
    where: str
    names: Tuple[str, ...] = NAMES


def places(settings: Settings, environment: Mapping[str, str]) -> List[Place]:
    """The search order for this configuration; ``kind`` is file, folders (a PATH) or module."""
    path = environment.get("PATH") or os.defpath
    if settings.singularity:
        if "/" in settings.singularity:
            return [Place("option", "file", settings.singularity)]
        return [Place("option", "folders", path, (settings.singularity,))]
    found = []
    override = settings.configured("GLIDEIN_SINGULARITY_BINARY_OVERRIDE")
    if override:
        # A path list is meant when it is no executable file; the glidein tries singularity first there.
        found.append(
            Place("GLIDEIN_SINGULARITY_BINARY_OVERRIDE", "file_or_folders", override, ("singularity", "apptainer"))
        )
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
    if any(environment.get(name) for name in ("LMOD_CMD", "MODULESHOME", "MODULEPATH")):
        found.extend(
            Place("module", "module", name, ("singularity", "apptainer")) for name in ("singularitypro", "singularity")
        )
    found.append(Place("cvmfs_oasis", "file", oasis))
    found.append(Place("cvmfs_oasis", "file", OASIS + "/apptainer/bin/apptainer"))
    return found


def _condor(settings: Settings, found_by: str) -> List[Place]:
    folders = [
        settings.configured("CONDOR_DIR"),
        settings.configured("GLIDEIN_WORK_DIR"),
    ]
    tarball = next((folder for folder in folders if folder), None)
    return [Place(found_by, "file", os.path.join(tarball, "usr/libexec/apptainer"))] if tarball else []


def look(place: Place, host: Host) -> Optional[Dict[str, Any]]:
    """What lies at one place, None when nothing does. May hang."""
    path = _find(place, host)
    if path is None:
        return None
    real = os.path.realpath(path)
    facts = {"path": path, "real": real, "executable": os.access(real, os.X_OK)}
    facts.update(_installation(real))
    return facts


def _find(place: Place, host: Host) -> Optional[str]:
    if place.kind == "module":
        outcome = host.run(
            ["bash", "-c", 'module load "$1" >/dev/null 2>&1; command -v singularity apptainer', "-", place.where],
            LOOK_LIMIT_S - 1,
        )
        lines = outcome.stdout.split()
        return lines[0] if lines and lines[0].startswith("/") else None
    if place.kind in ("file", "file_or_folders") and os.path.isfile(place.where):
        return place.where
    if place.kind in ("folders", "file_or_folders"):
        for name in place.names:
            for folder in place.where.split(os.pathsep):
                path = os.path.join(folder, name)
                if folder and os.path.isfile(path) and os.access(path, os.X_OK):
                    return path
    return None


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


def parse_version(text: str) -> Tuple[Optional[str], Optional[str]]:
    """Product and version from what ``--version`` prints; (None, None) where it is neither.

    Texts: "apptainer version 1.4.5", "singularity version 3.8.7-1.el7", "singularity-ce version 4.1.0-jammy",
    "SingularityPRO version 3.9-10.el8" and, for 2.x, a bare "2.6.1-dist".
    """
    match = re.search(
        r"^\s*(?:(apptainer|singularity-ce|singularity-?pro|singularity)(?: version)? )?(\d+\.\d+\S*)\s*$",
        text,
        re.I | re.M,
    )
    if not match:
        return None, None
    name = (match.group(1) or "singularity").lower()
    return {"singularitypro": "singularity-pro"}.get(name, name), match.group(2)


def setuid_facts(looked: Dict[str, Any], identity_map: Optional[bool], no_new_privs: Optional[bool]) -> Dict[str, Any]:
    """Whether the setuid starter is there and can work: the report's ``setuid``."""
    starter = looked["starter"]
    if starter is None:
        return {"installed": False, "usable": False, "reason": "setuid_not_installed", "path": None}
    values = (looked["configuration"] or {}).get("values", {})
    obstacles = [
        ("setuid_bit_missing", not starter["setuid"] or starter["owner"] != 0),
        ("setuid_on_nosuid_mount", starter["nosuid"]),
        ("setuid_disabled_by_config", values.get("allow setuid") == "no"),
        ("setuid_in_namespace", identity_map is False or no_new_privs is True),
    ]
    reason = next((reason for reason, stands in obstacles if stands), None)
    return {"installed": True, "usable": reason is None, "reason": reason, "path": starter["path"]}


def judge_version(outcome: Outcome) -> Tuple[str, Optional[str], Optional[str]]:
    """Status, reason and message of a ``--version`` run."""
    if outcome.state == "timeout":
        return "timeout", "runtime_timeout", "--version did not answer within {:.0f} s".format(VERSION_LIMIT_S)
    if outcome.state == "not_started":
        missing = outcome.error == errno.ENOENT
        return "fail", "runtime_not_found" if missing else "runtime_not_executable", os.strerror(outcome.error or 0)
    if outcome.signal:
        return "fail", "runtime_crashed", "--version ended by signal {}".format(outcome.signal)
    if parse_version(outcome.stdout)[0] is None:
        said = decisive_lines(outcome.stdout + "\n" + outcome.stderr, 1)
        return "fail", "runtime_wrong_output", "--version said {!r}".format(said[0] if said else "")
    return "ok", None, None


def _ask_version(host: Host, path: str) -> List[Any]:
    return list(host.run([path, "--version"], VERSION_LIMIT_S))


def detect(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``runtimes`` in the search order; "chosen" is set later, by the run that worked."""
    searched = places(settings, host.environment)
    results = host.attempt_all(
        LOOK_LIMIT_S, {"runtimes.look.{}".format(number): [look, place, host] for number, place in enumerate(searched)}
    )
    looked = _unique(searched, [results["runtimes.look.{}".format(number)] for number in range(len(searched))])
    versions = host.attempt_all(
        VERSION_LIMIT_S + 1,
        {
            "runtimes.version." + found["path"]: [_ask_version, host, found["path"]]
            for _, found, hung in looked
            if not hung
        },
    )
    identity_map, no_new_privs = _own_limits(host)
    runtimes = []
    for place, found, hung in looked:
        outcome = None if hung else _outcome(versions["runtimes.version." + found["path"]])
        runtimes.append(_runtime(place, found, outcome, setuid_facts(found, identity_map, no_new_privs)))
    yield {"data": runtimes, "checks": [_check(runtime) for runtime in runtimes] or [_nothing(searched)]}


def _unique(searched: List[Place], results: List[Result]) -> List[Tuple[Place, Dict[str, Any], bool]]:
    """What was found, each real file once, and hung places under their own path."""
    seen = set()
    looked = []
    for place, result in zip(searched, results):
        if result.state == "timeout":
            nothing = {"path": place.where, "real": place.where, "starter": None, "configuration": None}
            looked.append((place, nothing, True))
        elif result.value and result.value["real"] not in seen:
            seen.add(result.value["real"])
            looked.append((place, result.value, False))
    return looked


def _own_limits(host: Host) -> Tuple[Optional[bool], Optional[bool]]:
    """Whether our uid map is the identity, and whether we have no_new_privs; None where the kernel doesn't tell."""
    uid_map = (host.read_or_none("/proc/self/uid_map") or "").split()
    status = host.read_or_none("/proc/self/status") or ""
    identity_map = uid_map[:3] == ["0", "0", "4294967295"] if uid_map else None
    match = re.search(r"^NoNewPrivs:\s*(\d)", status, re.M)
    return identity_map, match.group(1) == "1" if match else None


def _outcome(result: Result) -> Outcome:
    if result.state != "done":
        return Outcome("timeout", None, None, None, "", result.detail, result.duration_s)
    return Outcome(*result.value)


def _runtime(place: Place, found: Dict[str, Any], outcome: Optional[Outcome], setuid: Dict[str, Any]) -> Dict[str, Any]:
    if outcome is None:
        status, reason = "timeout", "runtime_timeout"  # type: str, Optional[str]
    else:
        status, reason, _ = judge_version(outcome)
    product, version = parse_version(outcome.stdout) if outcome else (None, None)
    return {
        "path": found["path"],
        "found_by": place.found_by,
        "product": product,
        "version": version,
        "version_text": "".join(decisive_lines(outcome.stdout, 1)) or None if outcome else None,
        "status": status,
        "reason": reason,
        "setuid": setuid,
        "configuration": found["configuration"],
        "chosen": False,
    }


def _check(runtime: Dict[str, Any]) -> Check:
    return check(
        "runtimes." + runtime["path"],
        runtime["status"],
        runtime["reason"],
        runtime["version_text"] or "{} at {}".format(runtime["found_by"], runtime["path"]),
        found_by=runtime["found_by"],
        setuid=runtime["setuid"]["reason"] or "usable",
        starter=runtime["setuid"]["path"],
    )


def _nothing(searched: List[Place]) -> Check:
    where = ["{}: {}".format(place.found_by, place.where) for place in searched]
    return check("runtimes", "fail", "runtime_not_found", "no Singularity or Apptainer in any place", searched=where)


def unknown(_status: str, _reason: str, _message: str) -> List[Any]:
    """The report's ``runtimes`` where this detector never answered."""
    return []
