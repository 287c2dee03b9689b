"""Data files packed with the probe, read the same way from a folder and from the single file.

Not by pkgutil: importing it costs 4 to 8 ms, half of this program's own start.
"""

import os
from typing import Optional


def read(name: str) -> Optional[bytes]:
    """The bytes of probe/data/NAME; None where this build has no such file."""
    path = os.path.join(os.path.dirname(__file__), "data", name)
    try:
        return __loader__.get_data(path)  # type: ignore[name-defined,no-any-return]  # every module has one
    except OSError:
        return None
