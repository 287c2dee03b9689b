"""What an image needs of a node, fact by fact, each with its evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from site_db.storable import storable_tree

Evidence = Literal["read", "derived", "declared", "unknown"]

# read: from a binary or file of the image itself. derived: concluded from something that was read.
# declared: somebody says so (labels, environment, a catalogue, a compatibility specification).
EVIDENCES: tuple[Evidence, ...] = ("read", "derived", "declared", "unknown")

# Every fact by name, in the order in which people read them; what each value is: docs/images.md.
FACTS = {
    "kind": "sandbox, sif, or oci (an image in a registry or as an archive)",
    "arch": "as uname -m says it",
    "microarch": "x86-64 level that its programs need",
    "kernel": "oldest kernel on which its C library starts",
    "libc": "C library and its version",
    "os_id": "ID of os-release",
    "os_version": "VERSION_ID of os-release",
    "os_name": "PRETTY_NAME of os-release",
    "cuda": "conditions on GPU and driver, all to be met, each as NVIDIA's container toolkit writes them",
    "cuda_version": "CUDA version inside",
    "cuda_compat": "driver version of the CUDA compatibility library inside",
    "size_bytes": "bytes on disk",
    "labels": "labels by name",
}


@dataclass(frozen=True)
class Fact:
    """One value and where it comes from; `value` None: not known, or (evidence other than unknown) there is none."""

    value: Any
    evidence: Evidence
    source: str


UNKNOWN = Fact(None, "unknown", "")


@dataclass(frozen=True)
class Requirements:
    """The facts about one image by name (FACTS); one that is missing is unknown. `notes` say what could not be used."""

    facts: Mapping[str, Fact]
    notes: tuple[str, ...] = ()

    def fact(self, name: str) -> Fact:
        """One fact; an unknown one where there is none."""
        return self.facts.get(name, UNKNOWN)

    def value(self, name: str) -> Any:  # noqa: ANN401 - what a fact's value is depends on its name
        """The value of one fact; None where it is unknown."""
        return self.fact(name).value

    def to_dict(self) -> dict[str, Any]:
        """All facts in the order of FACTS, for JSON."""
        facts = {name: self.fact(name) for name in FACTS}
        return {"facts": {name: vars(fact) for name, fact in facts.items()}, "notes": list(self.notes)}

    def to_json(self) -> str:
        """The one text of these requirements, storable: equal requirements, equal texts."""
        return json.dumps(storable_tree(self.to_dict()), sort_keys=True, separators=(",", ":"))


def from_dict(document: Mapping[str, Any]) -> Requirements:
    """The requirements of a document that `to_dict` made; facts of a later release are left out."""
    facts = {name: Fact(**fact) for name, fact in document["facts"].items() if name in FACTS}
    known = {name: fact for name, fact in facts.items() if fact.evidence != "unknown"}
    return Requirements(known, tuple(document["notes"]))


def from_json(text: str) -> Requirements:
    """The requirements of a text that `to_json` made."""
    return from_dict(json.loads(text))


def combine(better: Requirements, other: Requirements) -> Requirements:
    """The facts of both; where both know one, that of `better`."""
    return Requirements({**other.facts, **better.facts}, (*better.notes, *other.notes))
