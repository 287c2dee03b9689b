"""Where the reports of a collector go: an inbox before the database, or straight into it; a process of its own stores them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from reports.gate import Gate
from reports.receiving import Accepting
from reports.settings import Settings
from site_db.errors import DatabaseUnavailable
from site_db.inbox import Inbox
from site_db.known_reports import known_reports
from site_db.segments import SUFFIX
from site_db.store import Store
from site_db.store_process import StoreProcess
from site_db.writer import Writer

LOG = logging.getLogger("site_db.collector")


class Writing(NamedTuple):
    """What create_app takes: who stores, and with an inbox who checks large batches."""

    writer: Accepting
    gate: Gate | None = None


@contextmanager
def writing(
    store: Store, url: str, settings: Settings, inbox: Path | None = None
) -> Iterator[Writing]:
    """What a collector over `store` (at `url`) writes with. Raises DatabaseUnavailable for an inbox that cannot be used.

    The inbox is a folder on this machine's disk: the one given, or beside the file of a SQLite database. For another
    database there is none unless one is given: a container's own disk does not outlive it.
    """
    stores = StoreProcess(url, store.place)
    try:
        stores.start()
        if folder := inbox or inbox_beside(store):
            kept = Inbox(folder, stores, partial(known_reports, store))
            gate = Gate(kept, settings, url)
            try:
                yield Writing(kept, gate)
            finally:
                gate.close()
                kept.close()
        else:
            writer = Writer(stores)
            try:
                yield Writing(writer)
            finally:
                writer.close()
    finally:
        stores.close()


def empty_inbox(store: Store, url: str, settings: Settings) -> None:
    """Bring into the database what an inbox beside it still holds: where a queue comes after it nobody else would."""
    folder = inbox_beside(store)
    if folder is None or not any(folder.glob(f"*{SUFFIX}")):
        return
    try:
        with writing(store, url, settings):
            LOG.info("emptying the inbox %s", folder)
    except DatabaseUnavailable as error:  # of a collector that is at work
        LOG.warning("%s", error)


def inbox_beside(store: Store) -> Path | None:
    """The inbox of a SQLite database: its file's name with `.inbox`."""
    path = store.sqlite_path
    return path.with_name(f"{path.name}.inbox") if path else None
