"""URLs of databases."""

import pytest

from site_db.engine import open_engine
from site_db.errors import DatabaseUnavailable


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://sitedb:s3cret@db:54x2/sitedb", "postgresql://"),
        ("postgresql+psycopg://sitedb:s3cret@db:54x2/sitedb", r"postgresql\+psycopg://"),
        ("mysql://sitedb:s3cret@db/sitedb", "mysql"),
        ("s3cret and no URL", "names no database"),
        ("s3cret@://", "names no database"),
    ],
)
def test_what_is_no_database_is_refused_and_its_password_not_told(url: str, words: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=words) as raised:
        open_engine(url)
    assert "s3cret" not in f"{raised.value}{raised.value.remedy}"
    assert raised.value.__cause__ is None
