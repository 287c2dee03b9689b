"""Sites and resources from the registries: OSG's Topology (a tree of YAML files) and CRIC (JSON)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from site_db.configuration.autoconf import load_yaml
from site_db.configuration.model import BrokenFile, Parsed, Problem, Resource

_SITE_FILE, _FACILITY_FILE = "SITE.yaml", "FACILITY.yaml"
_ABOUT = (_SITE_FILE, _FACILITY_FILE)


def is_topology(folder: Path) -> bool:
    """Whether a folder is the root of a Topology tree: FACILITY/SITE/SITE.yaml below it."""
    return next(folder.glob(f"*/*/{_SITE_FILE}"), None) is not None


def topology_files(folder: Path) -> list[Path]:
    """The files of a tree that hold something: one for each site and each of its resource groups."""
    return sorted(path for path in folder.glob("*/*/*.yaml") if path.is_file() and path.name not in _ABOUT) + sorted(
        folder.glob(f"*/*/{_SITE_FILE}")
    )


def read_topology(folder: Path) -> Parsed:
    """All resources of a tree. Raises BrokenFile for the first file that is no YAML, OSError."""
    return parse_topology({path.relative_to(folder).parts: path.read_bytes() for path in topology_files(folder)})


def parse_topology(files: Mapping[tuple[str, ...], bytes]) -> Parsed:
    """The resources in these files, each known by its steps (facility, site, file). A site without any has a row too."""
    resources: list[Resource] = []
    problems: list[Problem] = []
    documents = {steps: load_yaml(data, "/".join(steps)) for steps, data in files.items()}
    countries = {steps[:2]: _text(about.get("Country")) for steps, about in _mappings(documents, _SITE_FILE)}
    for steps, group in documents.items():
        if steps[-1] in _ABOUT:
            continue
        found = group.get("Resources") if isinstance(group, Mapping) else None
        if not isinstance(found, Mapping):
            problems.append(Problem("/".join(steps), "no resources in it"))
            continue
        country = countries.get(steps[:2])
        resources += _resources(found, steps, country)
    with_resources = {(resource.facility, resource.site) for resource in resources}
    empty = [pair for pair in countries if pair not in with_resources]
    resources += [Resource("", site, facility, country=countries[facility, site]) for facility, site in empty]
    return Parsed("topology", resources=tuple(resources), problems=tuple(problems))


def _mappings(documents: Mapping[tuple[str, ...], Any], name: str) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    for steps, document in documents.items():
        if steps[-1] == name:
            yield steps, document if isinstance(document, dict) else {}


def _resources(found: Mapping[Any, Any], steps: tuple[str, ...], country: str | None) -> Iterator[Resource]:
    facility, site, file = steps
    for name, about in found.items():
        about = about if isinstance(about, Mapping) else {}
        yield Resource(
            name=str(name),
            site=site,
            facility=facility,
            resource_group=file.removesuffix(".yaml"),
            fqdn=_text(about.get("FQDN")),
            active=about["Active"] if isinstance(about.get("Active"), bool) else None,
            country=country,
        )


def parse_cric(data: bytes, file: str) -> Parsed:
    """The sites in CRIC's JSON: an object from names to sites, or a list of sites.

    Read of a site: `name`, `facility` (or `rc_site`), `country`, `state`, and `resources`, an object or list of
    `{"name", "endpoint", "state"}`. Raises BrokenFile.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        raise BrokenFile(f"{file}:{line}:{column}", f"not valid JSON: {getattr(error, 'msg', error)}") from error
    resources: list[Resource] = []
    problems: list[Problem] = []
    for name, about in _named(document):
        if not name:
            problems.append(Problem(file, "a site without a name: left out"))
            continue
        below = list(_named(about.get("resources")))
        facility, country = _text(about.get("facility") or about.get("rc_site")), _text(about.get("country"))
        resources += [
            Resource(resource, name, facility, None, _fqdn(more.get("endpoint")), _active(more), country)
            for resource, more in below or [("", about)]
        ]
    if not resources:
        raise BrokenFile(f"{file}:1", "no sites in it", "Give the JSON of CRIC's sites: {NAME: {...}, ...}.")
    return Parsed("cric", resources=tuple(resources), problems=tuple(problems))


def _named(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 - any JSON
    pairs = document.items() if isinstance(document, Mapping) else [("", item) for item in _list(document)]
    for name, about in pairs:
        if isinstance(about, Mapping):
            yield _text(about.get("name")) or str(name), about


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:  # noqa: ANN401 - any YAML or JSON
    # No boolean: `NO` is Norway, and YAML 1.1 takes it for false.
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and str(value) else None


def _fqdn(endpoint: Any) -> str | None:  # noqa: ANN401 - any JSON
    text = _text(endpoint)
    return text.rpartition("//")[2].partition("/")[0].partition(":")[0] if text else None


def _active(about: Mapping[str, Any]) -> bool | None:
    state = _text(about.get("state"))
    return None if state is None else state.upper() == "ACTIVE"
