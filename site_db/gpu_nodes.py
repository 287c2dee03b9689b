"""Nodes by their GPUs: which they have, what their driver runs, whether containers reach them. Pure.

Three things are called version: the driver's (`nvidia_driver`, 550.54.15), the newest CUDA that this driver knows
(`driver_cuda_api`, 12.4, what HTCondor calls DriverVersion), and the CUDA releases that run there (`cuda_*`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from site_db.cuda import parse_version
from site_db.cuda_reach import Reach, all_data_center, dotted, is_data_center, reach
from site_db.verdicts import NodeGroup

_NVIDIA = "nvidia"

_ModelKey = tuple[str | None, str | None, int | None, str | None]


@dataclass(frozen=True)
class Instances:
    """Equal MIG instances of a GPU."""

    model: str | None
    memory_bytes: int | None
    count: int


@dataclass(frozen=True)
class Devices:
    """Equal GPUs of a node. `mig`: enabled, disabled, or None where there is no such thing; `error`: NVML's code for a GPU
    that does not answer."""

    vendor: str | None
    model: str | None
    memory_bytes: int | None
    compute_capability: str | None
    mig: str | None
    instances: tuple[Instances, ...]
    error: int | None
    data_center: bool | None
    count: int


@dataclass(frozen=True)
class GpuNodes:
    """Nodes with the same GPUs, driver and outcome. `visible_count`: how many of them a program sees.

    `cuda_full`: the newest release of which the driver has everything; `cuda_minor`: the newest by minor-version
    compatibility; `cuda_forward`: the newest that a compatibility library in the image may bring (None: brings nothing).
    """

    nodes: int
    devices: tuple[Devices, ...]
    visible_count: int | None
    status: str
    reason: str | None
    container_status: str
    container_reason: str | None
    nvidia_driver: str | None
    driver_cuda_api: str | None
    cuda_full: str | None
    cuda_minor: str | None
    cuda_forward: str | None
    rocm_version: str | None
    driver_libraries_glibc: str | None
    report_id: str | None


@dataclass(frozen=True)
class Model:
    """One model at a place: on how many nodes, and how many GPUs these have together."""

    vendor: str | None
    model: str | None
    memory_bytes: int | None
    compute_capability: str | None
    nodes: int
    devices: int


@dataclass(frozen=True)
class Span:
    """A version over nodes: the one that all reach, and the newest. Nodes that don't tell are left out."""

    everywhere: str | None
    anywhere: str | None


def kinds_of_gpus(groups: Iterable[NodeGroup]) -> tuple[GpuNodes, ...]:
    """The nodes with a sign of a GPU by what they have, the largest kind first."""
    found: dict[GpuNodes, GpuNodes] = {}
    for group in groups:
        if not _has_gpus(group.profile):
            continue
        kind = gpu_nodes(group.profile)
        there = found.get(kind, replace(kind, report_id=group.report_id))
        found[kind] = replace(there, nodes=there.nodes + group.nodes)
    return tuple(sorted(found.values(), key=lambda kind: (-kind.nodes, repr(kind))))


def _has_gpus(profile: Mapping[str, Any]) -> bool:
    """Whether there is a sign of a GPU: a device, or a driver that has something to say."""
    gpus = profile["gpus"]
    return bool(gpus["devices"]) or gpus["status"] in ("ok", "fail", "timeout")


def gpu_nodes(profile: Mapping[str, Any]) -> GpuNodes:
    """What one profile says, for no node yet. Profiles of older releases lack some of it."""
    gpus = profile["gpus"]
    devices = tuple(_devices(device) for device in gpus["devices"])
    ran = _reach(gpus, devices)
    return GpuNodes(
        nodes=0,
        devices=devices,
        visible_count=gpus["visible_count"],
        status=gpus["status"],
        reason=gpus["reason"],
        container_status=gpus["container"]["status"],
        container_reason=gpus["container"]["reason"],
        nvidia_driver=gpus["driver_version"] if _is_nvidia(devices) else None,
        driver_cuda_api=gpus["cuda_version"],
        cuda_full=dotted(ran.full),
        cuda_minor=dotted(ran.minor),
        cuda_forward=dotted(ran.forward),
        rocm_version=gpus.get("rocm_version"),
        driver_libraries_glibc=gpus["driver_libraries_glibc"],
        report_id=None,
    )


def _devices(found: Mapping[str, Any]) -> Devices:
    about = {name: found[name] for name in ("vendor", "model", "memory_bytes", "compute_capability", "count")}
    return Devices(
        **about,
        mig=found.get("mig"),
        instances=tuple(Instances(**instance) for instance in found.get("instances", ())),
        error=found.get("error"),
        data_center=is_data_center(found["model"]) if found["vendor"] == _NVIDIA else None,
    )


def _is_nvidia(devices: Sequence[Devices]) -> bool:
    """Whether a driver that is not named otherwise is NVIDIA's: also where it shows no device."""
    return not devices or any(device.vendor == _NVIDIA for device in devices)


def _reach(gpus: Mapping[str, Any], devices: Sequence[Devices]) -> Reach:
    driver, own = parse_version(gpus["driver_version"]), parse_version(gpus["cuda_version"])
    if driver is None or not _is_nvidia(devices):
        return Reach()
    nvidia = [device for device in devices if device.vendor == _NVIDIA]
    known = [capability for device in nvidia if (capability := parse_version(device.compute_capability))]
    return reach(driver, own, min(known, default=None), all_data_center(device.model for device in nvidia))


def models_of(kinds: Iterable[GpuNodes]) -> tuple[Model, ...]:
    """Every model on these nodes, that of the most nodes first."""
    nodes, devices = Counter[_ModelKey](), Counter[_ModelKey]()
    for kind in kinds:
        for device in kind.devices:
            devices[_key(device)] += kind.nodes * device.count
        for key in {_key(device) for device in kind.devices}:
            nodes[key] += kind.nodes
    ranked = sorted(nodes, key=lambda key: (-nodes[key], repr(key)))
    return tuple(Model(*key, nodes=nodes[key], devices=devices[key]) for key in ranked)


def _key(device: Devices) -> _ModelKey:
    return device.vendor, device.model, device.memory_bytes, device.compute_capability


def span(texts: Iterable[str | None]) -> Span:
    """The versions among these."""
    known = [(version, text) for text in texts if text is not None and (version := parse_version(text))]
    return Span(min(known)[1], max(known)[1]) if known else Span(None, None)
