"""What `site-db gpus` answers: for people, for programs, for spreadsheets."""

from collections.abc import Sequence

from reports.output import Answer, Table
from site_db.gpu_nodes import Devices, GpuNodes, Model, Span
from site_db.gpus import GpuReport, Gpus
from site_db.verdicts import Verdict

_GIB = 1024**3
_MODELS_SHOWN = 4
_KINDS_SHOWN = 20
_LEGEND = (
    "nodes: with a GPU that works, of all that could tell. In container: of those with one that works. CUDA: the newest "
    "release that all of them run; in brackets by minor-version compatibility. A range is from all nodes to any node."
)
_KINDS_LEGEND = (
    "driver: NVIDIA's, or ROCm's. API: the newest CUDA that this driver knows (HTCondor's DriverVersion). CUDA: the newest "
    "release of which it has everything; in round brackets by minor-version compatibility, in square ones with a "
    "compatibility library in the image, which only data-centre GPUs allow."
)
_FIGURES = (
    *("site", "entry", "factory", "nodes", "nodes_gpu_works", "nodes_gpu_no", "nodes_gpu_unknown"),
    *("share", "share_lower", "share_upper", "confidence", "models", "memory_gib", "devices"),
    *("nodes_in_container", "nodes_not_in_container", "nvidia_driver_everywhere", "nvidia_driver_anywhere"),
    *("cuda_full_everywhere", "cuda_full_anywhere", "cuda_minor_everywhere", "cuda_minor_anywhere"),
    *("cuda_forward_anywhere", "glidein_resource_slots", "request_gpus"),
)


def listed(found: GpuReport) -> Answer:
    """The GPUs of all sites."""
    table = Table(
        ["site", "nodes", "confidence", "GPUs", "in container", "CUDA"],
        [[place.site, *_cells(place)] for place in found.places],
    )
    told = f"Sites with a sign of GPUs within {found.window_days} days: {len(found.places)}; without: {found.left_out}."
    blocks: list[str | Table] = [told, table, _LEGEND] if table.rows else [told]
    return Answer(found.to_dict(), blocks, _figures(found.places))


def of_place(found: GpuReport) -> Answer:
    """The GPUs of a site and its entries, or of one entry."""
    first = found.places[0]
    entry = f"Entry {first.entry} of {first.factory}, site {first.site}"
    heading = entry if first.entry is not None else f"Site {first.site}"
    rows = [[place.entry or "(the site)", *_cells(place), *_claimed(place)] for place in found.places]
    columns = ["entry", "nodes", "confidence", "GPUs", "in container", "CUDA", "configured"]
    blocks: list[str | Table] = [f"{heading}: {_standing(first.works)}", Table(columns, rows), _LEGEND]
    if first.kinds:
        blocks += [_kinds(first.kinds), _KINDS_LEGEND]
    if found.left_out:
        blocks.append(f"Entries without a sign of GPUs, left out: {found.left_out}.")
    if first.entry is not None:
        blocks.append(f"Why not everywhere: site-db why {first.entry} gpu, site-db why {first.entry} gpu_container")
    return Answer(found.to_dict(), blocks, _figures(found.places))


def _cells(place: Gpus) -> list[object]:
    inside = place.inside
    return [
        f"{place.works.nodes_yes}/{place.works.nodes_measured}",
        place.works.confidence,
        _models(place.models),
        f"{inside.nodes_yes}/{inside.nodes_measured}" if inside.nodes else None,
        _cuda(place),
    ]


def _standing(verdict: Verdict) -> str:
    causes = ", ".join(f"{reason.code} on {reason.nodes}" for reason in verdict.reasons if reason.code)
    share = "" if verdict.share is None else f" ({verdict.share:.0%}, confidence {verdict.confidence})"
    told = f"GPUs work on {verdict.nodes_yes} of {verdict.nodes_measured} measured nodes{share}"
    unknown = f"; {verdict.nodes_unknown} could not tell" if verdict.nodes_unknown else ""
    return told + unknown + (f". Most frequent: {causes}." if causes else ".")


def _models(models: Sequence[Model]) -> tuple[str, ...]:
    told = [f"{_name(model.model)} {_memory(model.memory_bytes)} x{model.devices}" for model in models[:_MODELS_SHOWN]]
    left_out = len(models) - _MODELS_SHOWN
    return (*told, f"... {left_out} more") if left_out > 0 else tuple(told)


def _name(model: str | None) -> str:
    return (model or "unknown model").removeprefix("NVIDIA ")


def _memory(memory_bytes: int | None) -> str:
    return "? GiB" if memory_bytes is None else f"{memory_bytes / _GIB:.0f} GiB"


def _cuda(place: Gpus) -> str | None:
    full, minor = _range(place.cuda_full), _range(place.cuda_minor)
    return f"{full or '-'} ({minor or '-'})" if full or minor else None


def _range(span: Span) -> str | None:
    return span.everywhere if span.everywhere == span.anywhere else f"{span.everywhere}..{span.anywhere}"


def _claimed(place: Gpus) -> list[str | None]:
    claim = place.claim
    if place.entry is None:
        return [None]
    if claim is None:
        return ["not imported"]
    asked = f"; Request_GPUs {claim.request_gpus}" if claim.request_gpus else ""
    return [(claim.resource_slots or "no GPUs") + asked]


def _kinds(kinds: Sequence[GpuNodes]) -> Table:
    rows = [
        [
            kind.nodes,
            tuple(map(_device, kind.devices)) or None,
            kind.visible_count,
            _outcome(kind.status, kind.reason),
            _outcome(kind.container_status, kind.container_reason),
            kind.nvidia_driver or kind.rocm_version,
            kind.driver_cuda_api,
            _reach(kind),
        ]
        for kind in kinds[:_KINDS_SHOWN]
    ]
    left_out = len(kinds) - len(rows)
    title = "Kinds of nodes with GPUs" + (f" (... and {left_out} more)" if left_out else "")
    columns = ["nodes", "GPUs", "sees", "works", "in container", "driver", "API", "CUDA"]
    return Table(columns, rows, title)


def _reach(kind: GpuNodes) -> str | None:
    if kind.cuda_full is None and kind.cuda_minor is None:
        return None
    forward = f" [{kind.cuda_forward}]" if kind.cuda_forward else ""
    return f"{kind.cuda_full or '-'} ({kind.cuda_minor or '-'}){forward}"


def _device(device: Devices) -> str:
    told = f"{device.count} x {_name(device.model)} {_memory(device.memory_bytes)}"
    if device.compute_capability:
        told += f" cc {device.compute_capability}"
    parts = [f"{part.count} x {_memory(part.memory_bytes)}" for part in device.instances]
    if device.mig == "enabled":
        told += f" MIG ({', '.join(parts) or 'no instance'})"
    return told if device.error is None else f"{told} error {device.error}"


def _outcome(status: str, reason: str | None) -> str:
    return "yes" if status == "ok" else reason or status


def _figures(places: Sequence[Gpus]) -> Table:
    """One figure a cell, for spreadsheets."""
    return Table(_FIGURES, [_figure_row(place) for place in places])


def _figure_row(place: Gpus) -> list[object]:
    works, inside, claim = place.works, place.inside, place.claim
    memory = sorted({model.memory_bytes for model in place.models if model.memory_bytes is not None})
    return [
        *(place.site, place.entry, place.factory, place.nodes),
        *(works.nodes_yes, works.nodes_no, works.nodes_unknown),
        *(works.share, works.lower, works.upper, works.confidence),
        tuple(model.model or "unknown" for model in place.models),
        tuple(f"{value / _GIB:.1f}" for value in memory),
        sum(model.devices for model in place.models),
        *(inside.nodes_yes, inside.nodes_no),
        *(place.nvidia_driver.everywhere, place.nvidia_driver.anywhere),
        *(place.cuda_full.everywhere, place.cuda_full.anywhere),
        *(place.cuda_minor.everywhere, place.cuda_minor.anywhere),
        place.cuda_forward.anywhere,
        *((claim.resource_slots, claim.request_gpus) if claim else (None, None)),
    ]
