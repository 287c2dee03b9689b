"""Which CVMFS repositories matter to whom, and a small file in some of them: data/cvmfs_repositories.json."""

import json
from typing import Any, Dict, List

from probe import packed

_data: Dict[str, Any] = {}


def _read() -> Dict[str, Any]:
    if not _data:
        _data.update(
            json.loads((packed.read("cvmfs_repositories.json") or b'{"sets": {}, "files": {"of": {}}}').decode())
        )
    return _data


def names() -> List[str]:
    """The names of all sets."""
    return list(_read()["sets"])


def repositories(name: str) -> List[str]:
    """The repositories of a set; raises KeyError."""
    return list(_read()["sets"][name]["repositories"])


def files() -> Dict[str, str]:
    """Repository to the path of a small file in it."""
    return dict(_read()["files"]["of"])
