"""Whether what is stored has changed: a cheap mark for those who keep answers."""

from sqlalchemy import Connection, func, select, union_all

from site_db import tables

_NEWEST = (
    tables.reports.c.id,
    tables.configuration_files.c.imported_at,
    tables.image_catalogues.c.imported_at,
    tables.image_requirements.c.inspected_at,
)
# Made once: it is asked several times for each page.
_QUERY = union_all(*(select(func.coalesce(func.max(column), 0)) for column in _NEWEST))


def data_version(connection: Connection) -> tuple[int, ...]:
    """A mark that differs after reports, configuration or images came in. What only vanished may leave it as it was."""
    return tuple(connection.scalars(_QUERY))
