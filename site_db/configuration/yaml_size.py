"""How large YAML becomes when its aliases are written out: a few lines may stand for billions."""

from collections.abc import Mapping
from typing import Any

from site_db.configuration.model import BrokenFile

# Mappings, lists and values of all entries of a file with all that is merged into them. Real whitelists have some 20,000.
SIZE_LIMIT = 1_000_000


class YamlSize:
    """Adds up what is going to be written out. Every node is looked at once, however often it is referred to."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._known: dict[int, int | None] = {}  # None: its own size is being asked for
        self._total = 0

    def add(self, *values: Any) -> None:  # noqa: ANN401 - any YAML
        """Count these. Raises BrokenFile where it becomes too much, or has no end."""
        self._total += sum(map(self._of, values))
        if self._total > SIZE_LIMIT:
            raise BrokenFile(self._file, f"its aliases unfold to more than {SIZE_LIMIT} values")

    def _of(self, value: Any) -> int:  # noqa: ANN401 - any YAML
        below = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else None
        if below is None:
            return 1
        key = id(value)
        if key not in self._known:
            self._known[key] = None
            self._known[key] = 1 + sum(map(self._of, below))
        size = self._known[key]
        if size is None:
            raise BrokenFile(self._file, "an alias stands inside of what it refers to")
        return size
