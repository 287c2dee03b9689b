"""Catalogues: files that list images to publish. Three formats, read leniently line by line, judged strictly. Pure.

A wrong line is named and does not stop the rest; only a file that is none of the three as a whole is refused.
Formats studied in opensciencegrid/cvmfs-singularity-sync (docker_images.txt), cvmfs/cvmfs ducc/lib/recipe.go (recipe) and
osg-htc/ospool-apptainer-sync (apptainer-sync.yaml, workflow.py).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import ruamel.yaml
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from site_db.errors import SiteDbError
from site_db.images.naming import (
    ImageName,
    WrongName,
    ducc_reference,
    is_repository_name,
    osg_reference,
    ospool_reference,
    parse_image_name,
)

KINDS = ("docker-images", "ducc-recipe", "apptainer-sync")
SIZE_LIMIT = 8 << 20
_YAML_LIMIT = 1 << 20  # characters; reading YAML takes seconds for each
_LINES_LIMIT = 100_000
_ARCHES = ("x86_64", "aarch64")
_OSPOOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")
# What of a wrong line is shown: enough to find it, none of what could steer a terminal.
_SHOWN = 60


class BrokenCatalogue(SiteDbError):
    """A file that is no catalogue as a whole; nothing of it was taken."""


class Listed(NamedTuple):
    """One image of a catalogue. `reference` as nodes are given it; `arch` where the catalogue names it."""

    line: int
    name: str
    reference: str
    arch: str | None
    is_pattern: bool


class WrongLine(NamedTuple):
    """One line that was left out: what is wrong, and what to do."""

    line: int
    text: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class Catalogue:
    """What one file lists."""

    kind: str
    images: tuple[Listed, ...]
    wrong: tuple[WrongLine, ...]


Found = Iterator[Listed | WrongLine]


def parse_catalogue(text: str, place: str, kind: str | None = None) -> Catalogue:
    """The images of a catalogue; `kind` one of KINDS, None: by what is in it. Raises BrokenCatalogue."""
    if text.count("\n") > _LINES_LIMIT:
        raise BrokenCatalogue(f"{place}: more than {_LINES_LIMIT} lines.", "Give a list of images.")
    kind = kind or detect_kind(text)
    if kind != "docker-images" and len(text) > _YAML_LIMIT:
        raise BrokenCatalogue(f"{place}: more than {_YAML_LIMIT} characters of YAML.", "Give it in parts.")
    root = None if kind == "docker-images" else _compose(text, place)
    try:
        found = list(_PARSERS[kind](text, root))
    except _WrongShape as error:
        raise BrokenCatalogue(f"{place}: {error}", f"Give a {kind} file, or say --kind.") from error
    images: dict[tuple[str, str | None], Listed] = {}
    wrong = [item for item in found if isinstance(item, WrongLine)]
    for item in found:
        if isinstance(item, Listed):
            first = images.setdefault((item.name, item.arch), item)
            if first is not item:
                problem = f"it is listed already in line {first.line}"
                wrong.append(WrongLine(item.line, _shown(item.name), problem, "Drop one of the two."))
    return Catalogue(kind, tuple(images.values()), tuple(sorted(wrong)))


def detect_kind(text: str) -> str:
    """The kind that a file looks like: a recipe has `cvmfs_repo:`, a sync list has `- name:`, all else are lines."""
    if re.search(r"^cvmfs_repo\s*:", text, re.MULTILINE) or re.search(r"^input\s*:", text, re.MULTILINE):
        return "ducc-recipe"
    if re.search(r"^\s*-\s+(?:name|docker_image|apptainer_def|arch)\s*:", text, re.MULTILINE):
        return "apptainer-sync"
    return "docker-images"


class _WrongShape(ValueError):
    pass


def _shown(text: str) -> str:
    plain = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text[:_SHOWN])
    return plain + ("..." if len(text) > _SHOWN else "")


def _wrong(line: int, text: str, problem: object, remedy: str) -> WrongLine:
    return WrongLine(line, _shown(text), str(problem), remedy)


# --- docker_images.txt -----------------------------------------------------------------------------------------------------

_NAME_REMEDY = "Write [REGISTRY/]NAMESPACE/REPOSITORY[:TAG] in lower case."


def _docker_images(text: str, _root: Node | None) -> Found:
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            name = parse_image_name(line, with_digest=False)
        except WrongName as error:
            yield _wrong(number, line, error, _NAME_REMEDY)
            continue
        yield Listed(number, line, osg_reference(name), None, name.is_pattern)


# --- the two YAML files ----------------------------------------------------------------------------------------------------


def _compose(text: str, place: str) -> Node | None:
    """The tree with line numbers; nothing is constructed, so no tag can make anything. Aliases are not followed."""
    try:
        root: Node | None = ruamel.yaml.YAML(typ="safe", pure=True).compose(text)
    except (YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())[:300]
        raise BrokenCatalogue(f"{place} is no YAML: {problem}", "Correct the file; nothing of it was taken.") from error
    return root


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _members(node: Node | None, what: str) -> dict[str, Node]:
    if not isinstance(node, MappingNode):
        raise _WrongShape(f"{what} is no mapping")
    return {str(key.value): value for key, value in node.value if isinstance(key, ScalarNode)}


def _ducc_recipe(_text: str, root: Node | None) -> Found:
    members = _members(root, "a recipe")
    repository = members.get("cvmfs_repo")
    if not isinstance(repository, ScalarNode) or not is_repository_name(repository.value):
        raise _WrongShape("cvmfs_repo is missing, or no name of a repository")
    inputs = members.get("input")
    if not isinstance(inputs, SequenceNode):
        raise _WrongShape("input is missing, or no list")
    for node in inputs.value:
        yield _ducc_input(node, repository.value)


def _ducc_input(node: Node, repository: str) -> Listed | WrongLine:
    remedy = "Write https://REGISTRY/NAMESPACE/REPOSITORY:TAG."
    if not isinstance(node, ScalarNode):
        return _wrong(_line(node), "", "it is no text", remedy)
    scheme, separator, rest = node.value.partition("://")
    if not separator or scheme not in ("http", "https"):
        return _wrong(_line(node), node.value, "it is no http or https URL", remedy)
    try:
        name = parse_image_name(rest, with_digest=True)
    except WrongName as error:
        return _wrong(_line(node), node.value, error, remedy)
    if not name.registry:
        return _wrong(_line(node), node.value, "the registry is missing", remedy)
    return Listed(_line(node), node.value, ducc_reference(name, repository), None, name.is_pattern)


def _apptainer_sync(_text: str, root: Node | None) -> Found:
    if not isinstance(root, SequenceNode):
        raise _WrongShape("it is no list of images")
    for node in root.value:
        yield from _synced(node)


def _synced(node: Node) -> Found:
    try:
        members = _members(node, "an image")
        name = members.get("name")
        if not isinstance(name, ScalarNode) or not _OSPOOL_NAME.fullmatch(name.value):
            raise _WrongShape("name is missing, or has characters that no name can have")
        _check_origin(members)
        arches = _arches(members.get("arch"))
    except (_WrongShape, WrongName) as error:
        shown = node.value if isinstance(node, ScalarNode) else _name_in(node)
        yield _wrong(_line(node), shown, error, "Give name, docker_image or apptainer_def, and perhaps arch.")
        return
    for arch in arches:
        yield Listed(_line(node), name.value, ospool_reference(name.value, arch), arch, is_pattern=False)


def _name_in(node: Node) -> str:
    names = [value for key, value in node.value if key.value == "name"] if isinstance(node, MappingNode) else []
    return str(names[0].value) if names and isinstance(names[0], ScalarNode) else ""


def _check_origin(members: dict[str, Node]) -> ImageName | None:
    """The image that a SIF is made from; None for one that is built from a definition."""
    docker, definition = members.get("docker_image"), members.get("apptainer_def")
    if isinstance(definition, ScalarNode) and docker is None:
        return None
    if not isinstance(docker, ScalarNode):
        raise _WrongShape("neither docker_image nor apptainer_def is given")
    return parse_image_name(docker.value, with_digest=True)


def _arches(node: Node | None) -> tuple[str, ...]:
    if node is None:
        return ("x86_64",)  # the sync's own default (workflow.py)
    items = node.value if isinstance(node, SequenceNode) else [node]
    names = tuple(item.value for item in items if isinstance(item, ScalarNode))
    if not names or set(names) - set(_ARCHES):
        raise _WrongShape(f"arch has to be a list out of {', '.join(_ARCHES)}")
    return names


_PARSERS: dict[str, Callable[[str, Node | None], Found]] = {
    "docker-images": _docker_images,
    "ducc-recipe": _ducc_recipe,
    "apptainer-sync": _apptainer_sync,
}
