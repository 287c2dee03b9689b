"""Libraries that stand in for NVIDIA's, compiled from our own sources: they answer, fail with any code, hang or crash."""

import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent
VERSION = "550.54.15"
LIBRARIES = {"libnvidia-ml.so": "nvml.c", "libcuda.so": "cuda.c"}


def build(folder: Path, version: str = VERSION) -> Path:
    """Both libraries in a folder, under the names that a driver's package gives them; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in LIBRARIES.items():
        target, soname = folder / f"{name}.{version}", f"{name}.1"
        options = ["-shared", "-fPIC", "-O1", f"-Wl,-soname,{soname}", "-o", str(target)]
        subprocess.run(["cc", *options, str(SOURCES / source)], check=True, timeout=60)
        (folder / soname).symlink_to(target.name)
        (folder / name).symlink_to(soname)
    return folder


def build_needing(folder: Path, version: str) -> Path:
    """A libcuda.so.1 that needs a version of the C library, such as GLIBC_2.99: the loader refuses it. Its path."""
    folder.mkdir(parents=True, exist_ok=True)
    names = folder / "versions"
    names.write_text(f"{version} {{ global: newer_than_any; }};")
    stub, target = folder / "libc.so.6", folder / "libcuda.so.1"
    common = ["cc", "-shared", "-fPIC", "-nostdlib", "-x", "c", "-"]
    _compile([*common, f"-Wl,--version-script={names},-soname,libc.so.6", "-o", str(stub)], "int newer_than_any;")
    text = "extern int newer_than_any; int *needed(void) { return &newer_than_any; }"
    _compile([*common, "-Wl,-soname,libcuda.so.1", "-o", str(target), "-x", "none", str(stub)], text)
    stub.unlink()
    return target


def _compile(command: list[str], text: str) -> None:
    subprocess.run(command, input=text, text=True, check=True, timeout=60)
