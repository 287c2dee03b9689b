"""What is asked of a page: the parameters of its address. Every state of a page is an address."""

from collections.abc import Mapping
from urllib.parse import urlencode

from site_db.storable import storable

_LONGEST = 2048
_LARGEST = 1_000_000


class WrongQuestion(Exception):
    """A parameter that the page cannot answer; the text says which values it takes."""


class Asked:
    """The parameters of one request: texts are stored texts of bounded length, an empty one is none."""

    def __init__(self, parameters: Mapping[str, str] | None = None) -> None:
        self._parameters = {
            name: storable(value[:_LONGEST]) for name, value in (parameters or {}).items() if value.strip()
        }

    def text(self, name: str) -> str:
        """A text; empty if it was not given."""
        return self._parameters.get(name, "").strip()

    def number(self, name: str, default: int, least: int = 1, most: int = _LARGEST) -> int:
        """A whole number. Raises WrongQuestion."""
        value = self.text(name)
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and len(value) < 10 and least <= int(value) <= most):
            raise WrongQuestion(f"{name}: give a whole number from {least} to {most}")
        return int(value)

    def one_of(self, name: str, choices: Mapping[str, str] | tuple[str, ...], default: str = "") -> str:
        """One of these words. Raises WrongQuestion."""
        value = self.text(name)
        if value and value not in choices:
            raise WrongQuestion(f"{name}: choose one of {', '.join(choices)}")
        return value or default

    def query(self, **changes: str | None) -> str:
        """The query string of this state with some parameters changed (None: without it); the page number starts again."""
        state = {name: value for name, value in self._parameters.items() if name not in ("page", "table", "format")}
        state.update({name: value for name, value in changes.items() if value})
        for name in [name for name, value in changes.items() if not value]:
            state.pop(name, None)
        return "?" + urlencode(state)

    def kept(self, *without: str) -> list[tuple[str, str]]:
        """The parameters that a form has to carry along: all but those that it sets itself, and the page number."""
        left_out = {*without, "page", "table", "format"}
        return [(name, value) for name, value in self._parameters.items() if name not in left_out]

    @property
    def is_plain(self) -> bool:
        """Whether nothing was asked beyond the page itself."""
        return not self._parameters
