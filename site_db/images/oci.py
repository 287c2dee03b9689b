"""What an OCI or Docker image says of itself: its configuration, found in a layout folder, an archive or a file of its own.

Layers are not unpacked, so what only their files tell (C library, kernel, level) stays unknown.
"""

import json
import posixpath
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from site_db.images.bounded_files import read_file
from site_db.images.model import Fact
from site_db.images.nvidia import WrongRequirement, requirement_texts

JSON_LIMIT = 4 << 20
_MEMBERS_LIMIT = 100_000
_LABELS_LIMIT = 256
_TEXT_LIMIT = 1024
# Of an image, in bytes: JSON's numbers have no end.
_SIZE_LIMIT = 1 << 50
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
# GOARCH, and variants that uname names otherwise.
_ARCHES = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l", "riscv64": "riscv64"}
_INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")

Reader = Callable[[str], bytes]


class WrongImage(ValueError):
    """No image of this kind, or a malformed one: `str(error)` says what is wrong."""


class Described(NamedTuple):
    """Facts, and notes on what could not be used."""

    facts: dict[str, Fact]
    notes: list[str]


def parse_json(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object. Raises WrongImage."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WrongImage(f"{what} is no JSON") from error
    if not isinstance(found, dict):
        raise WrongImage(f"{what} is no JSON object")
    return found


def read_layout(folder: Path, arch: str | None) -> Described:
    """The image of an OCI layout; of several the one for `arch` (as uname names it). Raises WrongImage, Unreadable."""

    def reader(name: str) -> bytes:
        return read_file(folder / name, JSON_LIMIT)

    return _of_index(parse_json(reader("index.json"), "index.json"), reader, arch)


def read_archive(path: Path, arch: str | None) -> Described:
    """The image of a tar archive, as `docker save` or `skopeo copy oci-archive:` writes it. Raises WrongImage."""
    try:
        with tarfile.open(path, "r:") as archive:
            members = _small_members(archive)

            def reader(name: str) -> bytes:
                if name not in members:
                    raise WrongImage(f"{name[:80]} is missing in the archive")
                stream = archive.extractfile(members[name])
                return stream.read(JSON_LIMIT) if stream else b""

            if "index.json" in members and "oci-layout" in members:
                return _of_index(parse_json(reader("index.json"), "index.json"), reader, arch)
            return _of_docker_manifest(reader)
    except tarfile.TarError as error:
        raise WrongImage(f"no tar archive: {error}") from error


def describe(config: Mapping[str, Any]) -> Described:
    """The facts of an image's configuration (OCI image-spec, config.md)."""
    facts: dict[str, Fact] = {"kind": Fact("oci", "read", "the form of the file")}
    notes: list[str] = []
    named = config.get("architecture")
    if isinstance(named, str) and named:
        facts["arch"] = Fact(_ARCHES.get(named, named[:32]), "declared", "architecture of the configuration")
    inner = config.get("config")
    inner = inner if isinstance(inner, dict) else {}
    labels = inner.get("Labels")
    if isinstance(labels, dict):
        facts["labels"] = Fact(clean_labels(labels), "declared", "Labels of the configuration")
    environment = dict(item.split("=", 1) for item in inner.get("Env") or () if isinstance(item, str) and "=" in item)
    facts.update(cuda_facts(environment, "Env of the configuration", notes))
    return Described(facts, notes)


def clean_labels(labels: Mapping[Any, Any]) -> dict[str, str]:
    """Labels as texts of bounded length and number."""
    pairs = sorted((str(name)[:_TEXT_LIMIT], str(value)[:_TEXT_LIMIT]) for name, value in labels.items())
    return dict(pairs[:_LABELS_LIMIT])


def cuda_facts(environment: Mapping[str, str], source: str, notes: list[str]) -> dict[str, Fact]:
    """The facts about CUDA that an environment declares; an image that says nothing of CUDA has no conditions."""
    facts: dict[str, Fact] = {}
    version = environment.get("CUDA_VERSION")
    if version:
        facts["cuda_version"] = Fact(version[:64], "declared", f"CUDA_VERSION in {source}")
    try:
        texts = requirement_texts(environment)
    except WrongRequirement as error:
        notes.append(str(error))
        return facts
    names = sorted(name for name in environment if name.startswith("NVIDIA_REQUIRE_") or name == "CUDA_VERSION")
    facts["cuda"] = Fact(texts, "declared", f"{', '.join(names) or 'no such variable'} in {source}")
    return facts


def _small_members(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    found = {}
    for number, member in enumerate(archive):
        if number > _MEMBERS_LIMIT:
            raise WrongImage("too many members in the archive")
        if member.isreg() and member.size <= JSON_LIMIT:
            found[posixpath.normpath(member.name)] = member
    return found


def _of_index(index: Mapping[str, Any], reader: Reader, arch: str | None, depth: int = 0) -> Described:
    rows = [row for row in index.get("manifests") or () if isinstance(row, dict)]
    rows = [row for row in rows if not _is_attestation(row)]
    arches = [_arch_of(row) for row in rows]
    if arch is not None and arch in arches:
        rows = [rows[arches.index(arch)]]
    if not rows or depth > 2:
        raise WrongImage("the index names no image")
    manifest = parse_json(_blob(rows[0], reader), "the manifest")
    if manifest.get("mediaType") in _INDEX_TYPES or "manifests" in manifest:
        return _of_index(manifest, reader, arch, depth + 1)
    described = describe(parse_json(_blob(manifest.get("config"), reader), "the configuration"))
    layers = [layer.get("size") for layer in manifest.get("layers") or () if isinstance(layer, dict)]
    sizes = [size for size in layers if isinstance(size, int) and size >= 0]
    if sizes and len(sizes) == len(layers) and sum(sizes) <= _SIZE_LIMIT:
        described.facts["size_bytes"] = Fact(sum(sizes), "read", "layers of the manifest, compressed")
    if len(rows) > 1:
        others = ", ".join(sorted({name for name in arches if name}))
        described.notes.append(f"several images ({others}): the first is described; say --arch for another")
    return described


def _is_attestation(row: Mapping[str, Any]) -> bool:
    platform = row.get("platform")
    return isinstance(platform, dict) and platform.get("architecture") == "unknown"


def _arch_of(row: Mapping[str, Any]) -> str | None:
    platform = row.get("platform")
    named = platform.get("architecture") if isinstance(platform, dict) else None
    return _ARCHES.get(named, named) if isinstance(named, str) else None


def _blob(descriptor: object, reader: Reader) -> bytes:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if not match:
        raise WrongImage("a descriptor without a sha256 digest")
    return reader(f"blobs/sha256/{match[1]}")


def _of_docker_manifest(reader: Reader) -> Described:
    try:
        rows = json.loads(reader("manifest.json"))
        config = rows[0]["Config"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise WrongImage("manifest.json names no configuration") from error
    if not isinstance(config, str):
        raise WrongImage("manifest.json names no configuration")
    return describe(parse_json(reader(posixpath.normpath(config)), "the configuration"))
