"""CVMFS: how it is mounted, and whether each repository gives data, not only a listing.

A repository whose client died still answers stat for a minute, and is an empty ordinary folder after that; one whose
server is gone still lists its root. So a small file is read, and "is it CVMFS at all" is asked of the mount table and of
the attribute ``user.fqrn`` (CVMFS 2.12, run). What looks and judges is imported only where there is something to look at.
"""

import os
import re
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from probe.checks import check
from probe.detectors import cvmfs_mounts
from probe.engine import Findings
from probe.host import Host
from probe.mounts import parse_mountinfo
from probe.settings import Settings
from probe.workers import Result

LIMIT_S = 3.5
# A repository that is mounted by being touched: the client starts, fetches its configuration and the root catalog.
MOUNT_LIMIT_S = 10.0


# Of ordinary folders where CVMFS would be, so many are looked at.
COPIES = 32


def link_of(path: str) -> Optional[str]:
    """Where a path leads if it is a link; what lies there is not touched."""
    try:
        return os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    except OSError:
        return None


def repository_of(path: str, mount_dir: str) -> Optional[str]:
    """The repository that a path lies in, None for paths elsewhere."""
    for base in (mount_dir, cvmfs_mounts.DEFAULT_DIR):
        if path.startswith(base + "/"):
            return path[len(base) + 1 :].split("/", 1)[0] or None
    return None


def mount_dir_of(settings: Settings) -> str:
    """Where CVMFS is on this node."""
    return (settings.cvmfs_mount_dir or cvmfs_mounts.DEFAULT_DIR).rstrip("/") or "/"


def wanted(settings: Settings, mounts: List[Dict[str, str]], mount_dir: str, kind: Optional[str]) -> List[str]:
    """The repositories to look at: those asked for, or else those mounted, the images' and the usual ones."""
    asked = settings.cvmfs_repositories + _of_sets(settings.cvmfs_sets)
    if asked:
        return list(dict.fromkeys(asked))
    names = (settings.configured("GLIDEIN_CVMFS_REPOS") or "").split(":") if kind != "none" else []
    names += cvmfs_mounts.repositories_of(mounts, mount_dir)
    if cvmfs_mounts.is_automounted(mounts, mount_dir) or kind == "parrot":
        names += _of_sets(["default"])
    names += [repository_of(image, mount_dir) or "" for image in _images(settings)]
    return [name for name in dict.fromkeys(names) if name]


def _images(settings: Settings) -> List[str]:
    if not settings.configured("SINGULARITY_IMAGES_DICT"):
        return settings.images
    from probe.detectors import image_places

    return list(image_places.references(settings))


def _of_sets(names: List[str]) -> List[str]:
    if not names:
        return []
    from probe import repository_sets

    return [repository for name in names for repository in repository_sets.repositories(name)]


def is_name(name: str) -> bool:
    """Whether a repository can have this name; a path in its place would lead out of CVMFS."""
    return re.match(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}$", name) is not None


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``cvmfs``. Any number of repositories that hang cost one limit.

    One that hung when Singularity was looked for there is not touched again: it would be one more process for ever.
    """
    mount_dir = mount_dir_of(settings)
    mounts = parse_mountinfo(host.read_or_none("/proc/self/mountinfo") or "")
    places = [row["where"] for row in earlier.get("places", ()) if row["hung"] and ":" not in row["where"]]
    link, listed, is_hung = _peeked(host, mounts, mount_dir, places)
    mounts = cvmfs_mounts.as_linked(mounts, mount_dir, link)
    uses_cvmfsexec = (settings.configured("GLIDEIN_USE_CVMFSEXEC") or "").lower() in ("1", "true")
    in_parrot = bool(host.environment.get("PARROT_ENABLED"))  # cctools sets it for all that parrot_run runs
    kind = None if is_hung else cvmfs_mounts.kind_of(mounts, mount_dir, uses_cvmfsexec, in_parrot)
    names = wanted(settings, mounts, mount_dir, kind)
    if kind == "none" and not names:
        names = sorted(name for name in listed if "." in name and is_name(name))[:COPIES]
    rows: List[Dict[str, Any]] = []
    checks = []
    if names:
        hung: Set[Optional[str]] = {repository_of(place, mount_dir) for place in places}
        hung.update(names if is_hung else ())
        rows, checks = _look_at(host, settings, mounts, mount_dir, kind, names, hung)
        if kind == "none" and any(row["status"] == "ok" for row in rows):
            kind = "bind"  # an unpacked copy, as HPC sites have it: jobs find what they look for
    elif is_hung:
        checks = [check("cvmfs", "timeout", "cvmfs_hung", mount_dir + " does not answer")]
    elif kind == "none":
        checks = [check("cvmfs", "fail", "cvmfs_not_mounted", "nothing is mounted under {}".format(mount_dir))]
    version = next((row["client_version"] for row in rows if row["client_version"]), None)
    data = {"mount_dir": mount_dir, "kind": kind, "client_version": version, "repositories": rows}
    yield {"data": data, "checks": checks}


def _peeked(
    host: Host, mounts: List[Dict[str, str]], mount_dir: str, hung: List[str]
) -> Tuple[Optional[str], List[str], bool]:
    """Of a folder that nothing is mounted in: where it leads as a link, the names in it, and whether it does not answer."""
    folder = host.at(mount_dir)
    # /cvmfs itself lies on our own root; another folder may lie on what hangs.
    if cvmfs_mounts.mounted_under(mounts, mount_dir) or (mount_dir == "/cvmfs" and not os.path.lexists(folder)):
        return None, [], False
    if any(place.startswith(mount_dir + "/") for place in hung):
        return None, [], True
    result = host.attempt("cvmfs.folder", LIMIT_S, peek, folder)
    link, listed = result.value or (None, [])
    return link, listed, result.state == "timeout"


def peek(folder: str) -> Tuple[Optional[str], List[str]]:
    """Where a folder leads if it is a link, and the names in it. May hang."""
    try:
        return link_of(folder), os.listdir(folder)
    except OSError:
        return None, []


def _look_at(
    host: Host,
    settings: Settings,
    mounts: List[Dict[str, str]],
    mount_dir: str,
    kind: Optional[str],
    names: List[str],
    hung: Set[Optional[str]],
) -> Any:
    from probe import repository_sets
    from probe.detectors import cvmfs_look, cvmfs_rows

    automounted = cvmfs_mounts.is_automounted(mounts, mount_dir)
    known = {}
    for name in names:
        was_mounted = cvmfs_mounts.mount_of(mounts, mount_dir + "/" + name) is not None
        wanted_s = MOUNT_LIMIT_S if automounted and not was_mounted else LIMIT_S
        least = settings.cvmfs_min_revisions.get(name)
        known[name] = cvmfs_rows.Known(was_mounted, kind, host.limit(wanted_s, 0.8), least, wanted_s)
    files = repository_sets.files()
    calls = {
        "cvmfs." + name: [cvmfs_look.look, mount_dir + "/" + name, files.get(name)]
        for name in names
        if is_name(name) and name not in hung
    }
    results = host.attempt_each(calls, {name: known[name[len("cvmfs.") :]].limit_s for name in calls})
    untouched = Result("timeout", None, "", None, 0.0, left_running=True)
    results.update({"cvmfs." + name: untouched for name in names if name in hung})
    rows = [
        cvmfs_rows.row_of(name, results["cvmfs." + name], known[name], host.now())
        if is_name(name)
        else cvmfs_rows.no_name(name)
        for name in names
    ]
    cvmfs_rows.settle_content(rows)
    return rows, [cvmfs_rows.check_of(row, results.get("cvmfs." + row["name"])) for row in rows]


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """The report's ``cvmfs`` where this detector never answered."""
    return {"mount_dir": None, "kind": None, "client_version": None, "repositories": []}
