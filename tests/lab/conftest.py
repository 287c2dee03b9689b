"""The laboratory that the tests of this folder share: making one takes longer than most of them."""

from collections.abc import Iterator

import pytest

from tests.lab.images import LabError
from tests.lab.laboratory import Laboratory, find_apptainer, laboratory


@pytest.fixture(scope="session")
def lab() -> Iterator[Laboratory]:
    """The one laboratory; the tests are skipped where the machine cannot have one."""
    try:
        find_apptainer()
    except LabError as error:
        pytest.skip(str(error))
    with laboratory() as made:
        yield made
