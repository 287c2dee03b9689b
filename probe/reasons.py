"""Reason codes: why something does not work, and what the site or the factory can do. The rows are data/reasons.json."""

import json
from typing import Any, Dict, Optional

from probe import packed

_rows: Dict[str, Dict[str, Any]] = {}


def rows() -> Dict[str, Dict[str, Any]]:
    """All rows by code; each has title, jobs, site_remedy, factory_remedy, source."""
    if not _rows:
        data = packed.read("reasons.json") or b'{"reasons": []}'
        _rows.update({row["code"]: row for row in json.loads(data.decode())["reasons"]})
    return _rows


def remedy(code: Optional[str]) -> Optional[str]:
    """What can be done, the site's part first; None where nothing needs doing."""
    row = rows().get(code or "", {})
    parts = [row.get("site_remedy"), row.get("factory_remedy") and "Factory: " + row["factory_remedy"]]
    return " ".join(part for part in parts if part) or None


def title(code: Optional[str]) -> str:
    """A reason in a few words; the code itself where it is not known here."""
    return str(rows().get(code or "", {}).get("title") or code or "")
