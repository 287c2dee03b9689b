"""Texts of a report in a form that every database and every JSON writer takes. What a report says is hostile text."""

import re
from typing import Any

# PostgreSQL refuses NUL in a text, and half a surrogate pair has no UTF-8. The other control characters and the two
# line separators would let a name write on a terminal or break a line.
_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def storable(text: str) -> str:
    """`text` with every control character and lone surrogate replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable_tree(value: Any) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """A JSON value with all its texts, keys among them, made storable."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): storable_tree(item) for name, item in value.items()}
    if isinstance(value, list):
        return [storable_tree(item) for item in value]
    return value
