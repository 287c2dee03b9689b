"""No text or list of a report is longer than its schema takes; what is longer is cut, visibly.

The limits are those of reports/schema/report-1.0.json by field name; a test holds that nothing gets past them.
"""

from typing import Any, Dict

TEXT_DEFAULT = 256
TEXTS: Dict[str, int] = dict.fromkeys(("path", "mount_dir", "read", "home"), 4096)
TEXTS.update(dict.fromkeys(("message", "uid_map", "version_text", "host", "proxy", "url", "target", "issuer"), 1024))
TEXTS.update({"id": 512, "ref": 2048, "left_out": 2048, "remedy": 2048, "command": 8192, "audience": 1024})

LISTS = {
    "repositories": 256, "images": 1024, "checks": 2048, "runtimes": 32, "devices": 64, "outbound": 32, "proxies": 16,
    "scratch": 16, "alternatives": 16, "credentials": 32, "delivery": 32, "steps": 32, "cpu_flags": 64, "visible": 64,
    "controllers": 32, "keys": 32, "proc_masked": 64, "audience": 16,
}  # fmt: skip

# Maps whose names are not ours: one limit for all their values.
MAPS = {"values": 1024, "change": 1024}


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fit(value: Any, key: str = "") -> Any:
    """The value with every text and list in it cut to its limit; evidence is cut where checks are made."""
    if isinstance(value, str):
        return cut(value, TEXTS.get(key, TEXT_DEFAULT))
    if isinstance(value, list):
        return [fit(item, key) for item in value[: LISTS.get(key, 64)]]
    if not isinstance(value, dict) or key == "evidence":
        return value
    if key in MAPS:
        return {name: cut(item, MAPS[key]) if isinstance(item, str) else item for name, item in value.items()}
    return {name: fit(item, name) for name, item in value.items()}
