"""A node whose GPUs are stand-ins, with the real Apptainer and its --nv: what the single file says of it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import gpu_standin
from tests.lab.images import ensure_user
from tests.lab.laboratory import NAMESPACES, Laboratory

pytestmark = pytest.mark.lab

NODE = Path(__file__).parent / "gpu_standin/node.sh"
LIMIT_S = 60.0


@dataclass(frozen=True)
class Parts:
    """What the nodes share."""

    lab: Laboratory
    libraries: Path
    plain: Path
    image: Path


@pytest.fixture(scope="module")
def parts(lab: Laboratory) -> Iterator[Parts]:
    with tempfile.TemporaryDirectory(prefix="gpus-", dir=lab.lab) as name:
        folder = Path(name)
        folder.chmod(0o755)
        plain = glibc_image(folder / "plain", lab.image)
        image = built_by_apptainer(folder / "image", plain)
        yield Parts(lab, gpu_standin.build(folder / "driver"), plain, image)


def glibc_image(target: Path, busybox: Path) -> Path:
    """An image with the machine's own C library, as a distribution's would have: the lab's busybox image and a few files."""
    shutil.copytree(busybox, target, symlinks=True)
    libc = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so.6" in line)
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    names = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")
    files = [*(Path(libc).parent / name for name in names), Path("/usr/bin/getconf")]
    for path in files:
        place = target / str(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    (target / "lib64").mkdir()
    shutil.copy(loader.resolve(), target / "lib64" / loader.name)
    if not (target / "lib").exists():  # the loader looks in /lib as well as in /usr/lib
        (target / "lib").symlink_to("usr/lib")
    return target


def built_by_apptainer(target: Path, plain: Path) -> Path:
    """The same image with the one line of Apptainer's own environment that --nv counts on (99-base.sh of built images)."""
    shutil.copytree(plain, target, symlinks=True)
    script = target / ".singularity.d/env/99-base.sh"
    script.parent.mkdir(parents=True)
    script.write_text("export LD_LIBRARY_PATH=/.singularity.d/libs\n")
    return target


@pytest.fixture
def report(parts: Parts) -> Callable[..., dict[str, Any]]:
    """Runs the probe on such a node; keywords are the glidein's environment."""

    def run(*options: str, cached: bool = True, **environment: str) -> dict[str, Any]:
        lab = parts.lab
        user = ensure_user()
        path = f"{lab.apptainer.parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        keep = " ".join(
            str(folder) for folder in (sys.base_prefix, lab.lab, lab.apptainer.parents[2], lab.probe.parent)
        )
        glidein = {"PATH": path, "HOME": user.pw_dir, "USER": user.pw_name, **environment}
        words = [f"{name}={value}" for name, value in glidein.items()]
        command = [str(lab.probe), "run", "--deadline", "30", *options]
        with tempfile.TemporaryDirectory(prefix="root-", dir=lab.lab) as new_root:
            node = [str(NODE), new_root, user.pw_name, str(parts.libraries), "yes" if cached else "no", keep]
            done = subprocess.run(
                [*NAMESPACES, *node, "env", "-i", *words, *command],
                capture_output=True,
                text=True,
                timeout=LIMIT_S,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PATH": path},
            )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


def checks(report: dict[str, Any]) -> dict[str, Any]:
    """The report's checks by id."""
    return {row["id"]: row for row in report["checks"]}


def said(row: dict[str, Any]) -> tuple[str, str | None]:
    """Status and reason."""
    return row["status"], row["reason"]


def test_a_gpu_that_works_works_inside_and_in_an_image_with_its_own_c_library(parts: Parts, report: Any):  # noqa: ANN401  the fixture's function
    images = [str(parts.image), str(parts.plain), str(parts.lab.image)]
    found = report(*(word for image in images for word in ("--image", image)), GPU_STANDIN_FILES="1")
    gpus = found["gpus"]
    assert said(gpus) == ("ok", None), gpus
    assert [row["model"] for row in gpus["devices"]] == ["NVIDIA A40", "NVIDIA A100-SXM4-40GB"]
    container = gpus["container"]
    assert said(container) == ("ok", None), container
    assert container["evidence"]["tried"] == ["devices", "libraries", "cuinit"]
    assert (container["evidence"]["cuinit"], container["evidence"]["cuda_devices"]) == (0, 2)
    assert said(found["singularity"]["features"]["nv"]) == ("ok", None)
    in_image, in_plain, in_busybox = (checks(found)["gpus.container." + image] for image in images)
    assert (said(in_image), in_image["evidence"]["tried"]) == (("ok", None), ["loader", "cuinit"]), in_image
    # Nothing in this image says where --nv puts the libraries, and no program of it finds them.
    assert said(in_plain) == ("fail", "gpu_container_failed"), in_plain
    assert "LD_LIBRARY_PATH" in in_plain["message"]
    # Busybox alone has no loader: nothing dynamic can be tried there, and that is said.
    assert said(in_busybox) == ("unknown", "cannot_be_tried"), in_busybox


@pytest.mark.parametrize(
    ("behaviour", "reason"), [("inside error 999", "gpu_container_failed"), ("inside crash", "gpu_driver_crashed")]
)
def test_a_driver_that_fails_in_containers_only(report: Any, behaviour: str, reason: str):  # noqa: ANN401  as above
    found = report(GPU_STANDIN_CUDA=behaviour)
    assert said(found["gpus"]) == ("ok", None)
    assert said(found["gpus"]["container"]) == ("fail", reason), found["gpus"]["container"]
    assert said(found["singularity"]["features"]["nv"]) == ("ok", None)


def test_libraries_that_only_ld_library_path_knows_are_not_brought_in(parts: Parts, report: Any):  # noqa: ANN401  as above
    found = report(cached=False, LD_LIBRARY_PATH=str(parts.libraries))
    assert said(found["gpus"]) == ("ok", None)
    assert said(found["gpus"]["container"]) == ("fail", "gpu_libraries_not_inside"), found["gpus"]["container"]
    assert said(found["singularity"]["features"]["nv"]) == ("fail", "gpu_libraries_not_inside")


def test_a_broken_driver_is_not_tried_inside(report: Any):  # noqa: ANN401  as above
    found = report(GPU_STANDIN_NVML="error 18", GPU_STANDIN_CUDA="error 803")
    assert said(found["gpus"]) == ("fail", "gpu_driver_mismatch")
    assert said(found["gpus"]["container"]) == ("unknown", "prerequisite_failed")
    assert found["singularity"]["usable"] is True
