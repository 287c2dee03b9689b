"""Looking for garbage seldom, in processes through which many reports go.

Parsed reports have no cycles and are freed without; each look at them costs. Measured: a quarter of the processor time of a
stored report.
"""

import gc


def look_seldom() -> None:
    """To be called when all is imported: that lives until the end, and is not looked at again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
