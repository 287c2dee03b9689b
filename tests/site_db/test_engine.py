"""URLs of databases, and what is said where the library for one is missing."""

import sys
import tomllib
from pathlib import Path

import pytest

from site_db.engine import open_engine
from site_db.errors import DatabaseUnavailable
from site_db.extras import LIBRARIES, how_to_install


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


def test_a_missing_library_is_installed_by_its_own_name_into_the_python_that_runs() -> None:
    text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert {name: [library] for name, library in LIBRARIES.items()} == {
        name: [line.partition(";")[0] for line in lines] for name, lines in extras.items() if name in LIBRARIES
    }
    assert how_to_install("parquet") == f"Install it: {sys.executable} -m pip install 'pyarrow>=17'"
