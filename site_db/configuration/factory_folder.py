"""What the files of a factory say for all its entries: glideinWMS.xml, and config.d beside it in the order of names."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from site_db.configuration.factory_xml import ALONE, Around, common_settings
from site_db.configuration.model import BrokenFile, Problem, Setting

_MAIN, _MORE = "glideinWMS.xml", "config.d"


def read_around(path: Path) -> tuple[Around, list[Problem]]:
    """What the other files of the factory set for all entries, and which of them cannot be read.

    A file that is neither glideinWMS.xml nor in a config.d stands alone.
    """
    if path.name != _MAIN and path.parent.name != _MORE:
        return ALONE, []
    files, problems = _files_of_factory(path), list[Problem]()
    at = files.index(path) if path in files else len(files)
    return Around(_settings_of(files[:at], problems), _settings_of(files[at + 1 :], problems)), problems


def _files_of_factory(path: Path) -> list[Path]:
    """In the order in which the factory reads them."""
    folder = path.parent if path.name == _MAIN else path.parent.parent
    main = folder / _MAIN
    return [*([main] if main.is_file() else []), *sorted((folder / _MORE).glob("*.xml"))]


def _settings_of(files: Sequence[Path], problems: list[Problem]) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for file in files:
        try:
            about = file.stat()
            settings |= _read(file, about.st_mtime_ns, about.st_size)
        except (BrokenFile, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            problems.append(Problem(str(file), f"cannot be read: what it sets for all entries is not known ({why})"))
    return settings


@lru_cache(maxsize=256)  # each of the files is asked for by all the others
def _read(file: Path, _changed: int, _size: int) -> dict[str, Setting]:
    return common_settings(file.read_bytes(), str(file))
