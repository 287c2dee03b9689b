"""Known security holes of Singularity versions: the rows of data/advisories.json.

What to make of one is the centre's matter.
"""

import json
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from probe import packed

UNSET = ("", "NULL")  # how singularity.conf and apptainer.conf say that nothing is set


def version_numbers(version: str) -> Tuple[int, ...]:
    """The leading numbers of a version: "1.4.5-1.el9" is (1, 4, 5), "2.6.1-dist" is (2, 6, 1)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in match.group(0).split(".")) if match else ()


def rows() -> List[Dict[str, Any]]:
    """All rows: id, products, from, fixed (the first version without it), setuid_only, title, source.

    ``setting``, where there is one: the line of the configuration without which it does not matter.
    """
    data = packed.read("advisories.json") or b'{"advisories": []}'
    return list(json.loads(data.decode())["advisories"])


def matching(
    product: Optional[str], version: Optional[str], setuid_usable: bool, configuration: Mapping[str, str]
) -> List[Dict[str, Any]]:
    """The advisories that a version falls under. A distribution may have mended it without a new number."""
    numbers = version_numbers(version or "")
    return [
        row
        for row in rows()
        if product in row["products"]
        and version_numbers(row["from"]) <= numbers < version_numbers(row["fixed"])
        and (setuid_usable or not row["setuid_only"])
        and ("setting" not in row or configuration.get(row["setting"], "") not in UNSET)
    ]
