"""GPUs: what the node has, what its driver says, what the slot was given, what the glidein claims.

One file for each vendor's way; this one puts them together. What a job inside a container gets is gpu_container's.
"""

from typing import Any, Dict, Iterator, List, Optional

from probe.checks import check
from probe.detectors import gpu_signs
from probe.detectors.gpu_signs import Signs
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings


def detect(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``gpus``; a node without any sign of a GPU was answered before this is even imported (see registry)."""
    nothing = gpu_signs.nothing(host, settings)
    if nothing is not None:
        yield nothing
        return
    signs = gpu_signs.look(host)
    parts = _examine(host, signs)
    if not parts:
        yield gpu_signs.none_here(host, settings, "no GPU that a job could use")
        return
    yield _put_together(host, settings, parts)


def _examine(host: Host, signs: Signs) -> List[Dict[str, Any]]:
    """What each vendor's way found, NVIDIA first."""
    parts = []
    if signs["devices"] or signs["module"] is not None or "nvidia" in signs["vendors"]:
        from probe.detectors import gpu_nvidia

        parts.append(dict(gpu_nvidia.examine(host, signs), vendor="nvidia"))
    if signs["render_nodes"] or signs["kfd_nodes"] or "amd" in signs["vendors"]:
        from probe.detectors import gpu_drm

        for vendor in ("amd", "intel"):
            found = gpu_drm.examine(host, signs, vendor)
            if found:
                parts.append(dict(found, vendor=vendor))
    return parts


def _put_together(host: Host, settings: Settings, parts: List[Dict[str, Any]]) -> Findings:
    """One answer of all vendors: the first that works, or else the first; devices are those of all."""
    from probe.detectors import gpu_claim, gpu_visible
    from probe.detectors.gpu_errors import Judgement

    main = next((part for part in parts if part["judgement"].ok), parts[0])
    devices = main["data"].get("devices", [])
    if main["vendor"] == "nvidia":
        visible = gpu_visible.of_nvidia(host.environment, main["listed"], main["counted"])
    elif main["vendor"] == "amd":
        visible = gpu_visible.of_amd(host.environment, devices)
    else:
        visible = gpu_visible.Visible(len(devices), None)
    judgement = main["judgement"]
    if judgement.reason == "gpu_not_visible" or (judgement.ok and visible.number == 0):
        message = visible.problem or judgement.message or "the driver gives this slot no device"
        judgement = Judgement("fail", "gpu_not_visible", message)
    claim = gpu_claim.claim_of(settings)
    data = gpu_signs.shape(*judgement)
    for part in reversed([part for part in parts if part is not main] + [main]):
        data.update({name: value for name, value in part["data"].items() if name not in ("devices", "device_files")})
    for name in ("devices", "device_files"):
        data[name] = [row for part in parts for row in part["data"].get(name, [])][:64]
    data.update(
        visible=gpu_signs.visible_devices(host.environment),
        visible_variable=gpu_signs.visible_variable(host.environment),
        visible_count=_count(judgement, visible.number),
        claim=claim.text if claim else None,
    )
    own = check("gpus", *judgement, driver_version=data["driver_version"], devices=len(data["devices"]))
    slot = _slot_check(data, visible.problem)
    claimed = gpu_claim.judge_claim(claim, _present(judgement, data))
    rows = [own] + [row for part in parts for row in part["checks"]] + [slot] + ([claimed] if claimed else [])
    return {"data": data, "checks": rows}


def _count(judgement: Any, count: Optional[int]) -> Optional[int]:
    """How many GPUs a program sees: what the driver gave; nothing is known of a driver that does not work."""
    if judgement.reason in ("gpu_not_visible", "gpu_none"):
        return 0
    return count if judgement.ok else None


def _present(judgement: Any, data: Dict[str, Any]) -> Optional[int]:
    # GPUs that are there and do not work are none for a job; one that could not be looked at may be there.
    return 0 if judgement.status == "fail" else data["visible_count"]


def _slot_check(data: Dict[str, Any], problem: Optional[str]) -> Dict[str, Any]:
    """What the slot was given against what is there; a list that is odd and still gives a device is told and no failure."""
    facts = {"variable": data["visible_variable"], "visible": data["visible"], "usable": data["visible_count"]}
    if data["visible_count"] is None:
        return check("gpus.slot", "unknown", "prerequisite_failed", "the driver does not work", **facts)
    if data["visible_count"] == 0:
        return check("gpus.slot", "fail", "gpu_not_visible", problem or data["message"], **facts)
    return check("gpus.slot", "ok", None, problem, **facts)


def unknown(status: str, reason: Optional[str], message: Optional[str]) -> Dict[str, Any]:
    """The report's ``gpus`` where this detector never answered."""
    return gpu_signs.shape(status, reason, message)
