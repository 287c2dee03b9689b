"""What a report's rows of images count as."""

import pytest

from site_db.images.views import match_image
from site_db.reduction import reduce_report
from site_db.store import Store
from tests.sample_reports import Report, image
from tests.site_db.submissions import NOW, sample

REF = "docker://registry.example.org/vo/app:1"


def _registry(exec_s: float | None, status: str = "ok", reason: str | None = None) -> Report:
    return {**image(REF, status, reason), "kind": "registry", "path": None, "exec_s": exec_s}


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        (_registry(None), ("unknown", "not_requested")),
        (_registry(0.4), ("ok", None)),
        (_registry(None, "fail", "image_missing"), ("fail", "image_missing")),
        ({**image("/x"), "exec_s": None}, ("ok", None)),
    ],
)
def test_an_image_that_a_registry_merely_has_did_not_run(row: Report, outcome: tuple[str, str | None]) -> None:
    [result] = reduce_report(sample(images=[row])).images
    assert (result.status, result.reason) == outcome


def test_nodes_without_singularity_do_not_run_what_a_registry_has(store: Store) -> None:
    store.add([sample("no_runtime", node=n, images=[_registry(None)]) for n in range(1, 4)])
    [site] = match_image(store, REF, NOW).sites
    assert (site.start.answer, site.observed.yes) == ("no", 0)
