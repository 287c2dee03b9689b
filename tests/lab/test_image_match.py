"""What the centre predicts of images, and what the probe observes of them on real broken nodes: both have to agree."""

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from site_db.images.inspection import inspect
from site_db.images.needs import need_of, predict
from site_db.profiles import profile_of
from tests.lab.images import busybox_sandbox, busybox_sif
from tests.lab.laboratory import Laboratory
from tests.site_db.real_images import RealImageError, debian

pytestmark = pytest.mark.lab

NODES = {
    "healthy": (),
    "no /dev/fuse": ("fuse-denied",),
    "no user namespaces": ("userns-disabled",),
}
# The x86 property ISA_1_NEEDED and its size; the bits of the levels follow (x86-64 psABI).
NEEDED = bytes.fromhex("028000c004000000")


@pytest.fixture(scope="module")
def images(lab: Laboratory) -> dict[str, Path]:
    try:
        real, foreign = debian("bookworm", "amd64"), debian("bookworm", "arm64")
    except RealImageError as error:
        pytest.skip(str(error))
    return {
        "busybox": busybox_sandbox(lab.lab),
        "busybox.sif": busybox_sif(lab.lab, lab.apptainer),
        "busybox for v3": newer_busybox(lab.lab),
        "debian": real,
        "debian for aarch64": foreign,
    }


def newer_busybox(lab: Path) -> Path:
    """The busybox image, with a note in its program that says that it needs x86-64-v3."""
    target = lab / "images" / "busybox-v3"
    if not target.exists():
        shutil.copytree(busybox_sandbox(lab), target, symlinks=True)
        program = target / "bin/busybox"
        data = bytearray(program.read_bytes())
        place = data.index(NEEDED) + len(NEEDED)
        data[place] = 0b0100
        program.write_bytes(data)
    return target


def test_predicted_and_observed_agree_on_every_node_and_image(
    lab: Laboratory, images: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    requirements = {name: inspect(path) for name, path in images.items()}
    assert requirements["busybox for v3"].value("microarch") == "x86_64-v3"
    assert requirements["debian for aarch64"].value("arch") == "aarch64"
    table: Counter[tuple[str, str]] = Counter()
    lines = []
    for node, conditions in NODES.items():
        seen = lab.observe(conditions, images=list(images.values()))
        assert seen.report, seen.summary()
        profile = profile_of(seen.report)
        rows = {row["ref"]: row for row in seen.report["images"]}
        for name, path in images.items():
            predicted = predict(need_of(str(path), requirements[name]), profile, "start")
            row = rows[str(path)]
            observed = {"ok": "yes", "fail": "no", "timeout": "no"}.get(row["status"], "not tried")
            table[predicted.answer, observed] += 1
            reasons = f"{predicted.reason or '-'} / {row['reason'] or '-'}"
            lines.append(f"{node:20} {name:20} {predicted.answer:8} {observed:10} {reasons}")
    with capsys.disabled():
        sys.stdout.write("\n" + confusion(table))
    told = "\n".join(["node, image, predicted, observed, reasons of both", *lines])
    assert table["yes", "no"] == table["no", "yes"] == 0, told
    assert not any(predicted == "unknown" for predicted, _ in table), told
    assert table["yes", "yes"] >= 7, told
    assert table["no", "no"] >= 3, told


def confusion(table: Counter[tuple[str, str]]) -> str:
    """The table for people: what was predicted, downwards, and what was observed."""
    columns = ("yes", "no", "not tried")
    lines = ["observed:".ljust(20) + "".join(name.rjust(11) for name in columns)]
    for answer in ("yes", "no", "unknown"):
        lines.append(f"predicted {answer}".ljust(20) + "".join(str(table[answer, name]).rjust(11) for name in columns))
    return "\n".join(lines) + "\n"
