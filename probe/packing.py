"""A report as text that survives log files and machine ads. The centre reads it with reports/packed_reports.py.

A block is lines of one form, each of which says what it belongs to. So it does not matter what a log system writes
before and after them, or which lines of others stand between:

    [probe:1c291ca3:begin:2:301]   2 lines of data will follow, 301 bytes compressed
    [probe:1c291ca3:1:eNqrVipO...]
    [probe:1c291ca3:2:...]
    [probe:1c291ca3:end]

The name is the CRC-32 of the compressed bytes: the checksum of what was put together again. The data is the JSON report,
compressed by zlib, in base64 of the URL alphabet without padding: nothing in it needs an escape anywhere.
"""

from typing import Any, Dict, Iterator, Optional

from probe.report import to_json

# With what stands around it a line stays below 256 characters: some log systems cut longer ones.
LINE_CHARACTERS = 192
# HTCondor loses lines of 64 KiB and a neighbour with them; the attribute's name and a prefix need room, too.
ATTRIBUTE_LIMIT_BYTES = 60 * 1024
ATTRIBUTE_FORM = "1:"


def block(report: Dict[str, Any]) -> str:
    """The report as a block of lines, with a line end after each."""
    return "".join(line + "\n" for line in _lines(_compressed(report)))


def attribute(report: Dict[str, Any], limit_bytes: int = ATTRIBUTE_LIMIT_BYTES) -> Optional[str]:
    """The report as the contents of a ClassAd string, without quotes; None where it is longer than the limit."""
    text = ATTRIBUTE_FORM + _base64(_compressed(report))
    return text if len(text) <= limit_bytes else None


def _lines(data: bytes) -> Iterator[str]:
    import binascii

    text = _base64(data)
    parts = [text[start : start + LINE_CHARACTERS] for start in range(0, len(text), LINE_CHARACTERS)]
    mark = "[probe:{:08x}:".format(binascii.crc32(data) & 0xFFFFFFFF)
    yield "{}begin:{}:{}] a report of singularity-probe; site-db harvest logs reads it".format(
        mark, len(parts), len(data)
    )
    for number, part in enumerate(parts, 1):
        yield "{}{}:{}]".format(mark, number, part)
    yield mark + "end]"


def _compressed(report: Dict[str, Any]) -> bytes:
    import zlib

    return zlib.compress(to_json(report).encode("ascii"), 9)


def _base64(data: bytes) -> str:
    import binascii

    standard = binascii.b2a_base64(data).decode("ascii").rstrip("\n=")
    return standard.replace("+", "-").replace("/", "_")
