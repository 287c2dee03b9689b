"""Whether a file's bytes are those that were published.

A local cache that was overwritten is served as it is: wrong bytes, no error, no count (CVMFS 2.12, run). The catalog
knows better: the attribute ``user.hash`` of a file is the SHA-1 of its object, and an object is the file compressed by
zlib at its default level, or as it is where ``user.compression`` says none (CVMFS documentation, magic attributes).
"""

import os
import re
import zlib
from typing import Optional

# For what is this small all builds of zlib known to us make the same; relatives of it, such as zlib-ng, do not.
SMALL_BYTES = 8 * 1024


def compare(descriptor: int, data: bytes) -> Optional[str]:
    """ "verified", "differs", or None where the client does not tell enough."""
    try:
        wanted = os.getxattr(descriptor, "user.hash").decode("ascii", "replace").strip("\0\n ")
        compression = os.getxattr(descriptor, "user.compression").decode("ascii", "replace").strip("\0\n ")
    except OSError:  # protected, or an older client: the data were read all the same
        return None
    return judge(data, wanted, compression)


def judge(data: bytes, wanted: str, compression: str) -> Optional[str]:
    """The same from what was read; hashes with a suffix are of other algorithms."""
    if not re.match(r"[0-9a-f]{40}$", wanted) or compression not in ("zlib", "none"):
        return None
    if compression == "zlib" and len(data) > SMALL_BYTES:
        return None
    stored = zlib.compress(data) if compression == "zlib" else data
    if _sha1(stored) == wanted:
        return "verified"
    return "differs" if compression == "none" or re.match(r"[0-9.]+$", zlib.ZLIB_RUNTIME_VERSION) else None


def _sha1(data: bytes) -> str:
    try:
        # hashlib loads OpenSSL, which takes longer than all the rest.
        from _sha1 import sha1  # type: ignore[import-not-found]  # a module of CPython's own, without a stub
    except ImportError:  # a Python without its own
        from hashlib import sha1
    return str(sha1(data).hexdigest())  # noqa: S324  the catalog's own algorithm
