"""The command `site-db gpus` and the API's answer about GPUs."""

import csv
import io
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from reports.cli import cli
from reports.intake import utc_now
from site_db.store import Store
from tests.sample_reports import check, gpu_device, sample_report
from tests.site_db.submissions import submission

HOSTILE = '=cmd|"/C calc"!A0\x1b[2J<script>'
OLD = {
    "gpus__driver_version": "535.129.03",
    "gpus__cuda_version": "12.2",
    "gpus__devices": [gpu_device("u", "NVIDIA A100-SXM4-40GB", 40 << 30)],
    "gpus__container": check("gpus.container", "fail", "gpu_container_failed"),
}
ODD = {"gpus__devices": [gpu_device("u", HOSTILE)], "gpus__driver_version": HOSTILE, "gpus__cuda_version": HOSTILE}


@pytest.fixture
def filled(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'site.db'}"
    now = utc_now()
    made = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    cases = [("A", "gpu", {}), ("A", "gpu", OLD), ("A", "healthy", {}), ("B", "healthy", {}), ("C", "gpu", ODD)]
    store = Store.open(url)
    for number, (site, case, changes) in enumerate(cases):
        fields = {"host__machine_id": f"{number:032x}", "glidein__site": site, "glidein__entry": f"{site}_CE"}
        store.add([submission(sample_report(case, created_at=made, **fields, **changes), now)])
    store.close()
    return url


def run(url: str, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--database", url, *words])


def test_all_sites_are_listed_with_models_cuda_and_container_access(filled: str) -> None:
    shown = run(filled, "gpus").stdout
    assert "Sites with a sign of GPUs within 7 days: 2; without: 1." in shown
    for words in ("2/3", "A40 45 GiB x2", "A100-SXM4-40GB 40 GiB x1", "1/2", "12.2..12.4", "(12.9)"):
        assert words in shown
    assert "\x1b" not in shown


def test_an_entry_shows_its_kinds_of_nodes(filled: str) -> None:
    shown = run(filled, "gpus", "A_CE").stdout
    assert "GPUs work on 2 of 3 measured nodes (67%" in shown
    assert "gpu_none on 1" in shown
    for words in ("535.129.03", "12.2 (12.9)", "[13.4]", "12.4 (12.9)", "imported"):
        assert words in shown


def test_a_site_without_gpus_says_so(filled: str) -> None:
    shown = run(filled, "gpus", "B").stdout
    assert "GPUs work on 0 of 1 measured nodes" in shown
    assert "Entries without a sign of GPUs, left out: 1." in shown


def test_csv_has_one_figure_a_cell_under_names_that_cannot_be_mixed_up(filled: str) -> None:
    rows = list(csv.DictReader(io.StringIO(run(filled, "--format", "csv", "gpus", "A").stdout)))
    assert [row["entry"] for row in rows] == ["", "A_CE"]
    row = rows[1]
    assert (row["nodes_gpu_works"], row["nodes_gpu_no"], row["nodes_in_container"]) == ("2", "1", "1")
    assert (row["nvidia_driver_everywhere"], row["nvidia_driver_anywhere"]) == ("535.129.03", "550.54.15")
    assert (row["cuda_full_everywhere"], row["cuda_full_anywhere"], row["cuda_minor_everywhere"]) == (
        "12.2",
        "12.4",
        "12.9",
    )
    assert "version" not in " ".join(row).lower()


def test_hostile_names_stay_text(filled: str) -> None:
    [row] = [
        row for row in csv.DictReader(io.StringIO(run(filled, "--format", "csv", "gpus").stdout)) if row["site"] == "C"
    ]
    assert row["models"].startswith("'=")
    assert row["cuda_full_everywhere"] == ""
    assert "\x1b" not in run(filled, "gpus", "C").stdout


def test_an_unknown_name_has_a_hint(filled: str) -> None:
    done = run(filled, "gpus", "A_CR")
    assert done.exit_code == 1
    assert "hint:" in done.stderr
    assert "A_CE" in done.stderr


def test_the_api_gives_sites_and_single_places(client: httpx.Client, store: Store) -> None:
    report = sample_report("gpu", glidein__site="A/slash", glidein__entry="CE", created_at=utc_now().isoformat())
    store.add([submission(report, utc_now())])
    [site] = client.get("/api/v1/gpus").json()["places"]
    assert (site["site"], site["entry"], site["cuda_full"]["everywhere"]) == ("A/slash", None, "12.4")
    places = client.get("/api/v1/gpus", params={"name": "A/slash"}).json()["places"]
    assert [place["entry"] for place in places] == [None, "CE"]
    missing = client.get("/api/v1/gpus", params={"name": "nobody"})
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert "/api/v1/gpus" in client.get("/openapi.json").json()["paths"]
