"""The shapes of imported configuration: what every reader (XML, YAML, registries, policy) gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal, NamedTuple

from site_db.errors import SiteDbError

ATTR, SUBMIT_ATTR = "attr", "submit_attr"
Kind = Literal["factory_xml", "autoconf", "topology", "cric", "policy"]
Action = Literal["keep_attribute", "pin_entry", "disable_site"]

# Names go into indexed columns of this size (tables.py).
NAME_LIMIT = 255


class BrokenFile(SiteDbError):
    """A file that is not what it should be: `place` is FILE:LINE:COLUMN as far as known. Nothing of it was used."""

    def __init__(self, place: str, what: str, remedy: str = "Correct the file; nothing was imported.") -> None:
        super().__init__(f"{place}: {what}", remedy)
        self.place = place


class Problem(NamedTuple):
    """Something in a file that was read which somebody should look at; it stops nothing."""

    place: str
    text: str


@dataclass(frozen=True)
class Setting:
    """One attribute (or submit attribute) of an entry.

    `value` is the text that the factory's XML has in the end. `flags` are the other XML attributes as the file has
    them (const, publish, comment and the like). `line` is None where the value comes from defaults.
    """

    name: str
    value: str
    type: str = "string"
    flags: Mapping[str, str] = field(default_factory=dict)
    line: int | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of a factory as one file configures it. `section` is SITE/GATEKEEPER/SECTION, in autoconf files only."""

    name: str
    line: int
    enabled: bool
    gatekeeper: str
    gridtype: str | None
    attrs: Mapping[str, Setting]
    submit_attrs: Mapping[str, Setting]
    section: str | None = None

    @property
    def site(self) -> str | None:
        """GLIDEIN_Site."""
        return self.value("GLIDEIN_Site")

    @property
    def resource(self) -> str | None:
        """GLIDEIN_ResourceName."""
        return self.value("GLIDEIN_ResourceName")

    def value(self, name: str) -> str | None:
        """The value of an attribute; None where the entry has none."""
        setting = self.attrs.get(name)
        return setting.value if setting else None

    def values(self) -> dict[str, str]:
        """All attributes with their values."""
        return {name: setting.value for name, setting in self.attrs.items()}


@dataclass(frozen=True)
class Resource:
    """One resource of a registry; `name` is empty for a site of which no resource is known."""

    name: str
    site: str
    facility: str | None = None
    resource_group: str | None = None
    fqdn: str | None = None
    active: bool | None = None
    country: str | None = None


@dataclass(frozen=True)
class PolicyRow:
    """One decision of an operator: what it forbids, who says so, why, since when and until when (the last day)."""

    action: Action
    target: str
    author: str
    reason: str
    dated: date
    expires: date
    entry: str | None = None
    line: int = 0

    def acts_on(self, day: date) -> bool:
        """Whether it is in force on that day."""
        return self.dated <= day <= self.expires


@dataclass(frozen=True)
class Parsed:
    """What one file holds. `common`: what holds for all entries of the factory that do not say it themselves."""

    kind: Kind
    entries: tuple[Entry, ...] = ()
    resources: tuple[Resource, ...] = ()
    policy: tuple[PolicyRow, ...] = ()
    problems: tuple[Problem, ...] = ()
    common: Mapping[str, Setting] = field(default_factory=dict)
