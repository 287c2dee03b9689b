"""What runs of one glidein remember: the findings of a whole look, so that the next run looks only at what may have changed.

The folder is ours alone (mode 0700, our uid; keeper.py). It holds ``memory.json``, the ``image`` and the ``launch`` that the
next run starts at once, the ``python`` that the shell preamble takes without a test (and the LD_LIBRARY_PATH that goes
with it), and ``lock`` and ``started``. What is damaged, of another version or of another node is as if it were not there.
"""

import json
import os
import sys
import zlib
from typing import Any, Dict, List, Mapping, Optional

from probe.keeper import FOLDER, NONCE
from probe.settings import GLIDEIN_NAMES, GLIDEIN_SETTINGS, Settings
from probe.version import VERSION

Memory = Dict[str, Any]

# What a periodic run looks at again, besides the container start itself; the rest stands until the next whole look.
AGAIN = ("scratch", "cvmfs", "network", "credentials")
GPUS = "gpus"
VARIABLES = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "BEARER_TOKEN_FILE", "X509_USER_PROXY")
CHANGES_LIMIT = 256


def load(content: Optional[Any]) -> Optional[Memory]:
    """What was remembered, None where it is missing, damaged or another version's."""
    if not isinstance(content, bytes):
        return None
    try:
        found = json.loads(content.decode("utf-8"))
        good = found["version"] == VERSION and isinstance(found["whole_at"], (int, float))
        good = good and isinstance(found["folder"], str) and isinstance(found["files"], dict)
        good = good and all("data" in row and "checks" in row for row in found["findings"].values())
        return dict(found) if good and isinstance(found["published"], list) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def surroundings(settings: Settings, environment: Mapping[str, str], boot_id: str) -> int:
    """A checksum of all that findings depend on and that is known without looking: where it differs, nothing remembered
    counts. There are passwords among it, which no file is to hold."""
    chosen = settings._asdict()
    for name in ("trigger", "warnings", "identity", "glidein"):
        del chosen[name]
    names = (*GLIDEIN_SETTINGS, *GLIDEIN_NAMES.values())
    told = [name for name in environment if name.startswith(("APPTAINER", "SINGULARITY", "GLIDEIN_SINGULARITY"))]
    found = {
        "settings": chosen,
        "glidein": {name: settings.glidein[name] for name in names if name in settings.glidein},
        "environment": {name: environment[name] for name in sorted([*VARIABLES, *told]) if name in environment},
        "machine": [boot_id, os.uname().nodename, os.uname().release, os.geteuid()],
    }
    return zlib.crc32(json.dumps(found, sort_keys=True).encode())


def identities(paths: List[str]) -> Dict[str, Optional[List[int]]]:
    """What tells one state of a file from the next: inode, time of change, size; None where there is none. May hang."""
    return {path: _identity(path) for path in paths}


def _identity(path: str) -> Optional[List[int]]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_ino, found.st_mtime_ns, found.st_size]


def runtime_files(findings: Dict[str, Any]) -> List[str]:
    """The files that the verdict rests on: the chosen runtime and its configuration."""
    path = findings["singularity"]["data"]["path"]
    rows = [row for row in findings["runtimes"]["data"] if row["path"] == path]
    configured = [(row["configuration"] or {}).get("path") for row in rows]
    return [name for name in [path, *configured] if name]


def is_fresh(memory: Memory, around: int, now: float, full_every_s: float) -> bool:
    """Whether a run may go by what is remembered."""
    return bool(memory.get("launch")) and memory["around"] == around and 0 <= now - memory["whole_at"] < full_every_s


def again(memory: Memory, asked: List[str]) -> List[str]:
    """The detectors to run again, of those that ran in the whole look."""
    names = list(AGAIN)
    if memory["findings"].get(GPUS, {}).get("data", {}).get("status") == "ok":
        names.append(GPUS)
    return [name for name in names if name in memory["findings"] and name in asked]


def changes(memory: Memory, after: Dict[str, Any], folder: str) -> List[Dict[str, Any]]:
    """Checks that answer otherwise now: the report's ``changes_since``; null where there was or is no such check.

    ``folder`` is the working folder: a periodic run has a new one each time, so it is compared under no name of its own.
    """
    old, new = _answers(memory["findings"], memory["folder"]), _answers(after, folder)
    names = sorted(name for name in set(old) | set(new) if old.get(name) != new.get(name))
    return [{"check": name, "before": old.get(name), "after": new.get(name)} for name in names[:CHANGES_LIMIT]]


def _answers(findings: Dict[str, Any], folder: str) -> Dict[str, str]:
    checks = [check for found in findings.values() for check in found["checks"]]
    own, name = "host.scratch." + folder, "host.scratch.(working folder)"
    return {
        name if check["id"] == own else check["id"]: ":".join(filter(None, (check["status"], check["reason"])))
        for check in checks
    }


def remembered(memory: Memory, looked_again: List[str], now: float) -> List[Dict[str, Any]]:
    """The report's ``remembered``: detectors whose findings are an earlier run's, and how old these are."""
    age_s = round(max(0.0, now - memory["whole_at"]), 1)
    return [{"detector": name, "age_s": age_s} for name in memory["findings"] if name not in looked_again]


def launch_words(report: Dict[str, Any], image: str, changes: Mapping[str, Optional[str]]) -> Optional[List[str]]:
    """The glidein's start of our own image, with marks for what differs from run to run; None where none worked.

    Before it stand the changes of the environment: NAME=VALUE, without a value where the name goes.
    """
    import shlex

    command = report["singularity"]["command"]
    if not (report["singularity"]["usable"] and report["complete"] and command):
        return None
    words = shlex.split(command)[:-3]
    place = words.index("--home") + 1 if "--home" in words else 0
    if not place or not words[place].endswith(":/srv"):
        return None
    words[place] = FOLDER
    return [*(name + "=" + (value or "") for name, value in changes.items()), *words, image, "/payload", NONCE]


def save(folder: str, memory: Memory, arch: str) -> None:
    """Keep it for the next run, with the state of the runtime's files; raises OSError. The caller holds the lock. May hang."""
    words = memory["launch"]
    memory = dict(memory, files=identities(runtime_files(memory["findings"])) if words else {})
    if words:
        _make_image(os.path.join(folder, "image"), arch)
        _replace(os.path.join(folder, "launch"), "\0".join(words))
    else:
        _drop(os.path.join(folder, "launch"))
    # Empty where Python starts without the glidein's LD_LIBRARY_PATH only (preamble.sh): each run finds that out.
    libraries = os.environ.get("LD_LIBRARY_PATH", "")
    _replace(os.path.join(folder, "python"), "{}\n{}\n".format(sys.executable or "", libraries))
    _replace(os.path.join(folder, "memory.json"), json.dumps(memory, separators=(",", ":")))


def _make_image(image: str, arch: str) -> None:
    from probe import minimal_image

    if os.path.exists(image + "/payload"):
        return
    part = image + ".part"
    for left in (part, image):  # by a run that was killed; by a site's cleaner of old files
        if os.path.isdir(left):
            import shutil

            shutil.rmtree(left)
    minimal_image.create_sandbox(part, arch)
    os.rename(part, image)


def _replace(path: str, text: str) -> None:
    part = path + ".part"
    with open(part, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.rename(part, path)


def _drop(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
