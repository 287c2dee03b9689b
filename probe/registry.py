"""The table of detectors: one row each, those that others need first. A new detector is a file and a row here.

Modules are imported when their detector runs, in its own child: from the single file each import compiles its source,
and so they are compiled side by side.
"""

import sys
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

from probe.engine import Detector, Findings
from probe.host import Host
from probe.settings import Settings


def _module(name: str) -> Any:
    path = "probe.detectors." + name
    __import__(path)
    return sys.modules[path]


def _made_already(_host: Host, _settings: Settings, earlier: Dict[str, Any]) -> Optional[Findings]:
    work = earlier["scratch"]["work"] if "scratch" in earlier else None
    return {"data": work, "checks": []} if work else None


def _no_targets(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Optional[Findings]:
    if (
        settings.network_targets
        or settings.configured("PROXY_URL")
        or any("proxy" in name.lower() for name in host.environment)
    ):
        return None
    return {"data": {"outbound": [], "proxies": [], "condor_file_transfer": None}, "checks": []}


def _no_credentials(host: Host, _settings: Settings, _earlier: Dict[str, Any]) -> Optional[Findings]:
    if host.environment.get("BEARER_TOKEN_FILE") or host.environment.get("X509_USER_PROXY"):
        return None
    return {"data": [], "checks": []}


# What of the glidein's settings names images (detectors/image_places.py).
IMAGE_SETTINGS = (
    "SINGULARITY_IMAGES_DICT", "SINGULARITY_IMAGE_DEFAULT6", "SINGULARITY_IMAGE_DEFAULT7", "SINGULARITY_IMAGE_DEFAULT",
    "APPTAINER_TEST_IMAGE",
)  # fmt: skip


def _no_images(_host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Optional[Findings]:
    if settings.images or any(settings.configured(name) for name in IMAGE_SETTINGS):
        return None
    return {"data": {"rows": [], "coverage": None}, "checks": []}


def _no_cvmfs(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Optional[Findings]:
    return _module("cvmfs_inside").idle(host, settings, earlier)  # type: ignore[no-any-return]  # its own function


def _no_gpu(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Optional[Findings]:
    return _module("gpu_signs").nothing(host, settings)  # type: ignore[no-any-return]  # its own function


def _no_gpu_to_try(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Optional[Findings]:
    return _module("gpu_signs").nothing_to_try(host, settings, earlier)  # type: ignore[no-any-return]  # its own function


ON_THE_WAY = ("runtimes", "work_folder", "first_start", "singularity")
Idle = Callable[[Host, Settings, Dict[str, Any]], Optional[Findings]]


def _row(
    name: str,
    module: str,
    needs: Tuple[str, ...] = (),
    idle: Idle = lambda *_: None,
    aside: bool = False,
    vital: bool = False,
) -> Detector:
    def detect(*arguments: Any) -> Iterator[Any]:
        return _module(module).detect(*arguments)  # type: ignore[no-any-return]  # each detector's own function

    unknown: Callable[..., Any] = lambda *arguments: _module(module).unknown(*arguments)  # noqa: E731  as short as it is
    # Those on the way to the verdict are imported here while others run; the rest in their own children, side by side.
    load = (lambda: _module(module)) if name in ON_THE_WAY else (lambda: None)
    return Detector(name, detect, unknown, needs, load, idle, aside, vital)


DETECTORS = [
    _row("scratch", "scratch", vital=True),
    _row("places", "places", vital=True),
    _row("runtimes", "runtimes", ("places", "scratch"), vital=True),
    _row("work_folder", "work_folder", ("scratch",), _made_already),
    _row("first_start", "first_start", ("places", "scratch", "work_folder")),
    _row("namespaces", "namespaces", aside=True),
    _row("host", "machine", ("scratch",), aside=True),
    _row("cvmfs", "cvmfs", ("places",), aside=True),
    _row("gpus", "gpus", idle=_no_gpu, aside=True),
    _row("network", "network", idle=_no_targets, aside=True),
    _row("credentials", "credentials", idle=_no_credentials, aside=True),
    _row("singularity", "singularity", ("runtimes", "scratch", "work_folder", "namespaces", "first_start"), vital=True),
    _row("cvmfs_inside", "cvmfs_inside", ("scratch", "work_folder", "cvmfs", "singularity"), _no_cvmfs),
    _row("images", "images", ("scratch", "work_folder", "cvmfs", "singularity"), _no_images),
    _row("gpu_container", "gpu_container", ("scratch", "work_folder", "gpus", "singularity", "images"), _no_gpu_to_try),
]
