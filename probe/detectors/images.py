"""Images given by name: there, readable, and really starting, each with the glidein's own command line.

Of many images a run tries some, within its budget; ``image_coverage`` says how many were left out.
"""

import os
from typing import Any, Dict, Iterator, List, Optional

from probe import command_line, mounts
from probe.checks import Check, check
from probe.detectors import image_choice, image_places, image_starts
from probe.detectors.cvmfs import mount_dir_of, repository_of
from probe.engine import Findings
from probe.host import Host, cut_short
from probe.minimal_image import PAYLOAD_PATH
from probe.settings import Settings

LOOK_LIMIT_S = 5.0
NAMES_LEFT_OUT = 64
NOT_TOUCHED = "not touched: another image on the same mount does not answer"

Row = Dict[str, Any]


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """Rows of the report's ``images``, and ``coverage``. Nothing is tried where no image was asked for."""
    keys = image_places.references(settings)
    if not keys:
        yield {"data": unknown("", "", ""), "checks": []}
        return
    slot = image_choice.slot_of(host.now())
    seconds, count = settings.image_budget
    chosen = image_choice.choose(list(keys), str(host.facts()["hostname"]), slot, count)
    table = mounts.parse_mountinfo(host.read_or_none("/proc/self/mountinfo") or "")
    rows = _looked_at(host, settings, earlier, table, chosen)
    for reference, row in rows.items():
        row["keys"] = keys[reference]
    late = _start(host, settings, earlier, table, [row for row in rows.values() if row["status"] == "ok"], seconds)
    for row in late:
        del rows[row["ref"]]
    left_out = [reference for reference in keys if reference not in rows]
    checks = [_check(row) for row in rows.values()]
    features = _features(list(rows.values()))
    checks += features.values()
    if left_out:
        checks.append(_left_out_check(len(keys), left_out))
    coverage = {
        "wanted": len(keys),
        "tried": len(rows),
        "left_out_count": len(left_out),
        "left_out": left_out[:NAMES_LEFT_OUT],
        "slot": slot,
    }
    yield {"data": {"rows": list(rows.values()), "coverage": coverage, "features": features}, "checks": checks}


def _features(rows: List[Row]) -> Dict[str, Check]:
    """Whether images of registries start here, by those that were started; where one image or its registry is to blame,
    nothing is known of others."""
    started = [row for row in rows if row["kind"] == "registry" and row["exec_s"] is not None]
    if not started:
        return {}
    row = min(started, key=lambda row: (row["status"] != "ok", _is_its_own(row["reason"])))
    status = "unknown" if _is_its_own(row["reason"]) else row["status"]
    identifier = "singularity.features.registry"
    return {"registry": check(identifier, status, row["reason"], row["message"], row["exec_s"], image=row["ref"])}


def _is_its_own(reason: Optional[str]) -> bool:
    return reason is not None and reason.startswith(("image_", "registry_"))


def _left_out_check(wanted: int, left_out: List[str]) -> Check:
    message = "{} of {} images are left for other nodes and later runs".format(len(left_out), wanted)
    return check("images", "skipped", "over_budget", message, left_out=left_out)


def _row(reference: str, **fields: Any) -> Row:
    row: Row = dict.fromkeys(("path", "kind", "reason", "message", "exec_s", "os", "libc", "arch"))
    row.update(ref=reference, status="ok", keys=[], evidence={})
    row.update(fields)
    return row


def _looked_at(
    host: Host, settings: Settings, earlier: Dict[str, Any], table: List[mounts.Mount], chosen: List[str]
) -> Dict[str, Row]:
    """Rows of what is known without starting it; status "ok" means: to be started, or a registry that has it."""
    mount_dir, folder = mount_dir_of(settings), host.facts()["folder"]
    paths = {
        reference: image_places.place(reference, mount_dir, folder)
        for reference in chosen
        if not image_places.is_url(reference) and "\0" not in reference
    }
    # What lies on a hung repository is not touched once more: it would be one more process that cannot be killed.
    hung = {row["name"] for row in earlier["cvmfs"]["repositories"] if row["status"] == "timeout"}
    touched = [path for path in paths.values() if repository_of(path, mount_dir) not in hung]
    looked = _look_by_mount(host, mount_dir, table, touched)
    urls = [reference for reference in chosen if image_places.is_url(reference)]
    asked = _ask_registries(host, settings, urls) if urls and not settings.image_pull else {}
    rows = {}
    for reference in chosen:
        if reference in paths:
            rows[reference] = _row_of_path(reference, paths[reference], looked, mount_dir)
        elif reference in asked:
            rows[reference] = _row(reference, kind="registry", **asked[reference])
        elif image_places.is_url(reference):
            rows[reference] = _row(reference, kind="registry")
        else:
            rows[reference] = _row(reference)
            rows[reference].update(status="fail", reason="image_missing", message="no path can have this name")
    return rows


def _look_by_mount(host: Host, mount_dir: str, table: List[mounts.Mount], paths: List[str]) -> Dict[str, Any]:
    """What each path is. The images on one mount are looked at by one child."""
    calls = {"images.look." + path: [image_places.look, path, mount_dir] for path in paths}
    limits_s = dict.fromkeys(calls, host.limit(LOOK_LIMIT_S, 0.4))
    places = {"images.look." + path: "images.mount." + _mount_of(table, path) for path in paths}
    return host.attempt_by_place(calls, limits_s, places) if calls else {}


def _mount_of(table: List[mounts.Mount], path: str) -> str:
    mount = mounts.holding(table, path)
    return mount["point"] if mount else "/"


def _row_of_path(reference: str, path: str, looked: Dict[str, Any], mount_dir: str) -> Row:
    row = _row(reference, path=path)
    result = looked.get("images.look." + path)
    on_cvmfs = repository_of(path, mount_dir) is not None
    if result is None or result.state == "timeout":
        reason = "cvmfs_hung" if on_cvmfs else "image_unreadable"
        message = "it does not answer" if result is None or result.duration_s else NOT_TOUCHED
        row.update(status="timeout", reason=reason, message=message)
        if result and result.duration_s and cut_short(result, LOOK_LIMIT_S):
            row.update(status="unknown", reason="deadline_reached")
        return row
    found = result.value or {}
    if "odd" in found:
        row.update(status="fail", reason="image_invalid", message="{}, not an image".format(found["odd"]))
    elif "real" in found:
        row.update(kind=found["kind"], evidence={"real": found["real"]})
    else:
        error = found.get("errno", result.errno)
        message = os.strerror(error) if error else "the child that looked died: " + result.detail
        row.update(status="fail", reason=image_starts.reason_of_errno(error, on_cvmfs), message=message)
    return row


def _ask_registries(host: Host, settings: Settings, urls: List[str]) -> Dict[str, Row]:
    from probe.detectors import image_registry

    calls = {
        "images.registry." + url: [image_registry.ask, url, host.facts()["arch"], host.environment, settings.image_http]
        for url in urls
    }
    limits_s = dict.fromkeys(calls, host.limit(image_registry.LIMIT_S, 0.4))
    results = host.attempt_each(calls, limits_s)
    return {url: image_registry.judge(results["images.registry." + url]) for url in urls}


def _start(
    host: Host,
    settings: Settings,
    earlier: Dict[str, Any],
    table: List[mounts.Mount],
    rows: List[Row],
    seconds: float,
) -> List[Row]:
    """Start the images that are there; returns the rows of those that the time did not suffice for."""
    runtime, work = earlier["singularity"], earlier["work_folder"]
    if not runtime.get("usable"):
        for row in rows:
            row.update(status="unknown", reason="prerequisite_failed", message="no container starts on this node")
        return []
    ready = [row for row in rows if row["kind"] != "registry" or settings.image_pull]
    if not ready:
        return []
    folder = str(host.facts()["folder"] or work["work_folder"])
    binds = earlier["scratch"]["binds"]
    payload = work["sandbox"] and "/srv/" + os.path.basename(work["sandbox"]) + PAYLOAD_PATH
    means = image_starts.Means(
        command_line.factory_launch(settings, runtime["path"], folder, binds),
        command_line.factory_launch(settings, runtime["path"], str(work["work_folder"]), binds),
        work["work_folder"],
        payload,
        mount_dir_of(settings),
        lambda path: _mount_of(table, path),
    )
    return image_starts.start_all(host, means, ready, seconds)


def _check(row: Row) -> Check:
    return check(
        "images." + row["ref"],
        row["status"],
        row["reason"],
        row["message"] if row["status"] != "ok" else None,
        row["exec_s"],
        path=row["path"],
        **row["evidence"],
    )


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """What the report is made of where this detector never answered."""
    return {"rows": [], "coverage": None}
