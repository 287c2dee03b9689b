"""How long CVMFS takes to answer: read from the newest kept reports, because profiles hold no measurements."""

from datetime import datetime, timedelta

import orjson
import zstandard
from sqlalchemy import select

from site_db import tables
from site_db.images.fleet import site_ids
from site_db.queries import OBSERVED
from site_db.store import Store
from site_db.times import microseconds

_BODY, _ENTRIES = tables.raw_reports.c, tables.entries.c


def cvmfs_latencies(
    store: Store, now: datetime, days: int, most: int, site: str | None = None
) -> dict[str, list[float]]:
    """The seconds that each repository took, by its name, in `most` newest reports of nodes at most. Raises UnknownName.

    Of every node under an entry its newest report counts, if it was made within these days and is still kept.
    """
    query = (
        select(_BODY.body)
        .join_from(tables.observations, tables.raw_reports, OBSERVED.report == _BODY.report)
        .where(OBSERVED.created_at >= microseconds(now - timedelta(days=days)))
    )
    with store.reading() as connection:
        if site is None:
            # By the key of the bodies: the newest nodes of the whole grid without sorting all of them.
            query = query.order_by(_BODY.report.desc())
        else:
            entries = select(_ENTRIES.id).where(_ENTRIES.site_id.in_(site_ids(connection, [site])))
            query = query.where(OBSERVED.entry_id.in_(entries)).order_by(OBSERVED.created_at.desc())
        bodies = list(connection.scalars(query.limit(most)))
    found: dict[str, list[float]] = {}
    decompressor = zstandard.ZstdDecompressor()
    for body in bodies:
        for repository in orjson.loads(decompressor.decompress(body))["cvmfs"]["repositories"]:
            if repository["latency_s"] is not None:
                found.setdefault(repository["name"], []).append(float(repository["latency_s"]))
    return found
