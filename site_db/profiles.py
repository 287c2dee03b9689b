"""The capability profile: the part of a report that decides what can run.

No names, times or measurements are in it, so nodes of one kind share it, however many reports they send. Its places are
those of the report where that is possible, so that one dotted path finds a fact in both.
"""

import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

from site_db.storable import storable_tree

Document = dict[str, Any]

# A change of this number, or of what profile_of takes, gives every node a new profile: say so in the changelog.
PROFILE_VERSION = 2

# A glidein's own folder (glide_Ab12Cd) is new every time: with it each glidein would be a kind of node of its own.
_GLIDEIN_FOLDER = re.compile(r"\bglide_[A-Za-z0-9]+")


@functools.lru_cache(maxsize=4096)
def parsed(document: str) -> Document:
    """A stored profile, not to be changed: who asks for it again gets the same one. Profiles never change either."""
    found: Document = orjson.loads(document)
    return found


def profile_of(report: Document) -> Document:
    """The profile of a schema-valid report. Pure; the order of the report's lists and objects makes no difference."""
    host, cvmfs = report["host"], report["cvmfs"]
    kernel = host["kernel"]["version"]
    profile = {
        "profile_version": PROFILE_VERSION,
        "host": {
            "arch": host["arch"],
            "microarch": host["microarch"],
            "os": {"id": host["os"]["id"], "version_id": host["os"]["version_id"]},
            "kernel": kernel[:2] if kernel else None,
            "libc": host["libc"],
            "container": {"kind": host["container"]["kind"]},
            "cgroup": {"version": host["cgroup"]["version"]},
        },
        "namespaces": {name: _outcome(found) for name, found in report["namespaces"].items() if name != "settings"},
        "singularity": _singularity(report["singularity"], report["runtimes"]),
        "cvmfs": {"kind": cvmfs["kind"], "repositories": _repositories(cvmfs["repositories"])},
        "gpus": _gpus(report["gpus"]),
    }
    if "\\" in canonical_json(profile):  # an escape: only then can there be anything that has to be replaced
        profile = storable_tree(profile)
    return profile


def canonical_json(profile: Document) -> str:
    """The one text of a profile: sorted keys, no blanks, ASCII only."""
    try:
        fast = orjson.dumps(profile, option=orjson.OPT_SORT_KEYS)  # the same text, ten times as fast, if all is ASCII
        if fast.isascii():
            return fast.decode()
    except TypeError:  # an integer beyond 64 bits, half a surrogate pair
        pass
    return json.dumps(profile, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(profile: Document) -> str:
    """SHA-256 (hex) of the canonical JSON: equal profiles, equal fingerprints."""
    return fingerprint_of_json(canonical_json(profile))


def fingerprint_of_json(text: str) -> str:
    """The fingerprint of a profile whose canonical JSON is there already."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _outcome(found: Document) -> Document:
    return {"status": found["status"], "reason": found["reason"]}


def _outcomes(checks: Document) -> Document:
    return {name: _outcome(check) for name, check in checks.items()}


def _singularity(found: Document, runtimes: list[Document]) -> Document:
    chosen = next((runtime for runtime in runtimes if runtime["chosen"]), None)
    setuid = chosen["setuid"] if chosen else None
    alternatives = [
        {"change": _without_glidein(item["change"]), **_outcome(item["check"])} for item in found["alternatives"]
    ]
    return {
        **{name: found[name] for name in ("usable", "reason", "mode", "product", "version")},
        "modes": _outcomes(found["modes"]),
        "features": _outcomes(found["features"]),
        "alternatives": sorted(alternatives, key=canonical_json),
        "setuid": {name: setuid[name] for name in ("installed", "usable", "reason")} if setuid else None,
    }


def _without_glidein(change: Document) -> Document:
    return {name: value and _GLIDEIN_FOLDER.sub("glide_*", value) for name, value in change.items()}


def _repositories(repositories: list[Document]) -> Document:
    # Should a hostile report name one twice, the same one of the two wins whatever their order.
    in_order = sorted(repositories, key=lambda item: canonical_json(_outcome(item)))
    return {item["name"]: _outcome(item) for item in in_order}


def _gpus(found: Document) -> Document:
    """What of `gpus` decides: kinds of devices and how many, never which (UUIDs are new on every node)."""
    return {
        **_outcome(found),
        "driver_version": found["driver_version"],
        "cuda_version": found["cuda_version"],
        "rocm_version": found.get("rocm_version"),
        "driver_libraries_glibc": found["driver_libraries_glibc"],
        "devices": _counted(_device(device) for device in found["devices"]),
        "visible_count": _visible_count(found),
        "container": _outcome(found["container"]),
    }


def _device(found: Document) -> Document:
    return {
        **{name: found[name] for name in ("vendor", "model", "memory_bytes", "compute_capability", "mig")},
        "error": found.get("error"),
        "instances": _counted(
            {name: instance[name] for name in ("model", "memory_bytes")} for instance in found.get("instances", ())
        ),
    }


def _counted(items: Iterable[Document]) -> list[Document]:
    """Equal items once, with their `count`, in an order of their own."""
    kinds = Counter(map(canonical_json, items))
    return [{**json.loads(kind), "count": count} for kind, count in sorted(kinds.items())]


def _visible_count(found: Document) -> int | None:
    """How many devices a program sees; their names are no matter. Older probes left it to the reader."""
    if "visible_count" in found:
        count: int | None = found["visible_count"]
        return count
    visible = found["visible"]
    return len(found["devices"]) if visible is None else len(visible)
