"""Bodies of requests with reports as a fleet makes them: about 9 KB each, every one new, its times its own."""

import gzip
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import cycle, islice
from random import Random

import orjson
import zstandard
from fleet.story import Fleet, Plan

# Times differ from run to run, whatever else is the same: no receiver is to profit from equal texts.
_TIMES = re.compile(rb'(_s":)([0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?)(?=[,}])')
_IDENTITY = re.compile(rb'("report_id":)"[^"]*"(,"created_at":)"[^"]*"')
_BASES = 3000
_GZIP_LEVEL = 6  # the probe's


def reports(seed: int) -> Iterator[bytes]:
    """Reports without end: the nodes, kinds and names of a fleet, made now."""
    chance = Random(seed)
    made = bases()
    for base in cycle(chance.sample(made, len(made))):
        yield _new(base, chance)


@cache
def bases() -> list[bytes]:
    """The reports of a fleet from which others are made; it takes a second or two, once."""
    plan = Plan(
        seed=1, entries=300, days=2, reports_a_day=1.0, noise=0.01, regressions=15, end=datetime.now(UTC), most_nodes=100
    )
    # In the order of their times: of nodes by chance.
    return [orjson.dumps(report) for _, report in islice(Fleet(plan).reports(), _BASES)]


def _new(base: bytes, chance: Random) -> bytes:
    def another_time(match: re.Match[bytes]) -> bytes:
        return match[1] + repr(round(float(match[2]) * chance.uniform(0.7, 1.6), 4)).encode()

    made_at = (datetime.now(UTC) - timedelta(seconds=chance.random())).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    names = uuid.UUID(int=chance.getrandbits(128), version=4), made_at
    text = _TIMES.sub(another_time, base)
    return _IDENTITY.sub(lambda match: b'%s"%s"%s"%s"' % (match[1], *_quoted(match, names)), text, count=1)


def _quoted(match: re.Match[bytes], names: tuple[uuid.UUID, str]) -> tuple[bytes, bytes, bytes]:
    return str(names[0]).encode(), match[2], names[1].encode()


def single(report: bytes) -> bytes:
    """A body with one report, packed as the probe packs it (gzip)."""
    return gzip.compress(report, _GZIP_LEVEL)


def batch(lines: list[bytes]) -> bytes:
    """A body of NDJSON, zstd."""
    return zstandard.ZstdCompressor(level=1).compress(b"\n".join(lines) + b"\n")
