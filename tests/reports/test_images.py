"""The commands `site-db images ...` and the API's answers about images."""

import csv
import io
import json
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from click.testing import CliRunner, Result

from reports.cli import cli
from reports.intake import utc_now
from site_db.images.model import Fact, Requirements
from site_db.images.registering import Given, add_image
from site_db.store import Store
from tests.lab.images import busybox_sandbox, lab_folder
from tests.sample_reports import image, sample_report
from tests.site_db.submissions import submission

ROCKY = "/cvmfs/singularity.opensciencegrid.org/htc/rocky:9"
CUDA = "/cvmfs/singularity.opensciencegrid.org/htc/rocky:9-cuda"
HOSTILE = '/images/=cmd|"/C calc"!A0\x1b[2J<script>alert(1)</script>`id`" || true || "'


def facts(**changes: object) -> Requirements:
    values = {"arch": "x86_64", "microarch": "x86_64-v2", "kind": "sandbox", "os_id": "rocky", "cuda": [], **changes}
    return Requirements({name: Fact(value, "read", "test") for name, value in values.items()})


def fill(store: Store) -> None:
    now = utc_now()
    add_image(store, ROCKY, [Given("inspected", facts(), "test")], now)
    add_image(store, CUDA, [Given("inspected", facts(cuda=["cuda>=12.4"], cuda_version="12.4.1"), "test")], now)
    made = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    cases = [("A", "healthy"), ("A", "gpu"), ("A", "no_userns"), ("B/slash", "healthy"), ("B/slash", "deadline")]
    for number, (site, case) in enumerate(cases):
        fields = {
            "host__machine_id": f"{number:032x}",
            "glidein__site": site,
            "glidein__entry": site,
            "created_at": made,
        }
        tried = [image(ROCKY, *(("ok",) if number else ("fail", "image_start_failed"))), image(HOSTILE)]
        store.add([submission(sample_report(case, **fields, images=tried if case != "deadline" else []), now)])


@pytest.fixture
def filled(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'filled.db'}"
    store = Store.open(url)
    fill(store)
    store.close()
    return url


def run(url: str, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--database", url, *words])


def data(url: str, *words: str) -> object:
    done = run(url, "--format", "json", *words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["data"]


def test_a_catalogue_is_imported_and_its_wrong_lines_are_named(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'site.db'}"
    path = tmp_path / "docker_images.txt"
    path.write_text("htc/rocky:9\nvo/app:$(reboot)\ngromacs/gromacs:*\n")
    done = run(url, "images", "import", str(path))
    assert done.exit_code == 1
    assert f"{path.name}:2:" in done.stdout
    path.write_text("htc/rocky:9\n")
    assert run(url, "images", "import", str(path)).exit_code == 0
    assert [item["image"] for item in data(url, "images", "list")["images"]] == [ROCKY]


def test_a_file_that_is_not_there_is_said_in_words(tmp_path: Path):
    done = run(f"sqlite:///{tmp_path / 'site.db'}", "images", "import", str(tmp_path / "nothing"))
    assert done.exit_code == 1
    assert "hint:" in done.stderr


def test_inspect_shows_each_fact_with_its_evidence(tmp_path: Path):
    folder = str(busybox_sandbox(lab_folder()))
    found = data(f"sqlite:///{tmp_path / 'site.db'}", "images", "inspect", folder)
    assert found["facts"]["arch"] == {"value": "x86_64", "evidence": "read", "source": "/bin/sh: ELF header"}
    assert found["facts"]["libc"]["evidence"] == "unknown"
    assert "ELF header" in run("sqlite://", "images", "inspect", folder).stdout


def test_add_takes_what_is_inspected_declared_and_specified(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'site.db'}"
    folder = str(busybox_sandbox(lab_folder()))
    specification = tmp_path / "compatibility.yaml"
    specification.write_text(
        "version: v1alpha1\ncompatibilities:\n- rules:\n  - name: cpu\n    matchFeatures:\n    - feature: cpu.cpuid\n"
        "      matchExpressions:\n        X86_64_V3: {op: Exists}\n    - feature: pci.device\n      matchExpressions:\n"
        '        vendor: {op: In, value: ["10de"]}\n'
    )
    assert run(url, "images", "add", "/i/b", "--inspect", folder, "--compatibility", str(specification)).exit_code == 0
    assert run(url, "images", "add", "/i/b", "--inspect", folder).exit_code == 0  # reading again drops no declaration
    [item] = data(url, "images", "list")["images"]
    found = item["requirements"]
    assert (found["facts"]["microarch"]["value"], found["facts"]["microarch"]["evidence"]) == ("x86_64-v3", "declared")
    assert found["facts"]["os_id"]["value"] == "probelab"
    assert any("pci.device" in note for note in found["notes"])


@pytest.mark.parametrize("declared", ["arch=sparc", "nonsense", "kernel=x", "cuda=cuda", "size_bytes=1"])
def test_a_wrong_declaration_says_what_would_be_right(declared: str, tmp_path: Path):
    done = run(f"sqlite:///{tmp_path / 'site.db'}", "images", "add", "/i", "--declare", declared)
    assert done.exit_code == 1
    assert "hint:" in done.stderr


def test_a_match_tells_sites_reasons_and_disagreements(filled: str):
    shown = run(filled, "images", "match", "htc/rocky:9").stdout
    assert "userns_limit_reached" in shown
    assert "image_start_failed" in shown
    assert "Prediction and observation disagree" in shown
    found = data(filled, "images", "match", "htc/rocky:9")
    assert {site["site"]: site["start"]["counts"] for site in found["sites"]} == {
        "A": [2, 1, 0],
        "B/slash": [1, 0, 1],
    }
    only = data(filled, "images", "match", "htc/rocky:9", "--disagreements")
    assert [(item["predicted"], item["observed"]) for item in only] == [("yes", "no"), ("no", "yes")]


def test_a_cuda_image_is_matched_with_and_without_gpus(filled: str):
    found = data(filled, "images", "match", CUDA)
    site = next(site for site in found["sites"] if site["site"] == "A")
    assert site["start"]["counts"] == [2, 1, 0]
    assert site["gpu"]["counts"] == [1, 2, 0]
    assert "With what it asks of GPUs: 1 of" in run(filled, "images", "match", CUDA).stdout


def test_the_matrix_as_csv_has_a_column_for_every_site(filled: str):
    rows = list(csv.reader(io.StringIO(run(filled, "--format", "csv", "images", "matrix").stdout)))
    assert rows[0] == ["image", "A", "B/slash"]
    assert [row for row in rows if row[0] == ROCKY] == [[ROCKY, "0.6667", "1.0"]]
    found = data(filled, "images", "matrix", "--site", "A", "htc/rocky:9")
    assert found["sites"] == ["A"]
    assert found["cell"] == ["yes", "no", "unknown", "tried"]
    assert [row["sites"] for row in found["images"]] == [[[2, 1, 0, 3]]]


def test_a_pick_names_the_set(filled: str):
    found = data(filled, "images", "pick", "--require", "os=rocky", "--site", "A")
    assert [(item["image"], item["adds"]) for item in found["chosen"]] == [(ROCKY, 2), (CUDA, 1)]
    assert "greedy" in run(filled, "images", "pick").stdout
    assert data(filled, "images", "pick", "--gpu", "--require", "cuda>=12")["chosen"][0]["image"] == CUDA
    assert run(filled, "images", "pick", "--require", "size=1").exit_code == 1
    assert run(filled, "images", "pick", "--site", "Nowhere").exit_code == 1


def test_requirements_are_an_expression_alone_on_stdout(filled: str):
    done = run(filled, "images", "requirements", CUDA, "--gpu")
    assert done.exit_code == 0
    [line] = done.stdout.splitlines()  # what it evaluates to: tests/site_db/test_images_classads.py
    assert line.startswith("(")
    assert line.endswith(")")
    assert 'versioncmp(PROBE_GPU_CUDA, "12.4") >= 0' in line
    assert "driver and CUDA" in done.stderr


def test_of_an_image_that_nobody_knows_no_expression_is_made(filled: str):
    done = run(filled, "images", "requirements", HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}"))
    assert done.exit_code == 1
    assert "--declare arch=" in done.stderr


def test_an_unknown_image_is_said_with_its_neighbours(filled: str):
    done = run(filled, "images", "match", "htc/rocky:8")
    assert done.exit_code == 1
    assert "rocky:9" in done.stderr


def test_hostile_names_steer_neither_terminal_nor_spreadsheet(filled: str):
    for words in (("images", "list"), ("images", "matrix"), ("--format", "csv", "images", "matrix")):
        out = run(filled, *words).stdout
        assert "\x1b" not in out
    rows = list(csv.reader(io.StringIO(run(filled, "--format", "csv", "images", "list").stdout)))
    assert all(not cell.startswith(("=", "+", "@")) for row in rows for cell in row)


@pytest.fixture
def served(client: httpx.Client, store: Store) -> httpx.Client:
    fill(store)
    return client


def test_the_api_lists_images_and_matches_them(served: httpx.Client):
    listed = served.get("/api/v1/images").json()
    assert ROCKY in [item["image"] for item in listed["images"]]
    for name in (quote(ROCKY, safe=""), ROCKY.lstrip("/"), "htc/rocky:9"):
        found = served.get(f"/api/v1/images/{name}/sites")
        assert found.status_code == 200, name
        assert found.json()["image"] == ROCKY
    assert {site["site"] for site in found.json()["sites"]} == {"A", "B/slash"}


def test_the_api_tells_images_at_a_site(served: httpx.Client):
    for name in ("A", "B%2Fslash", "B/slash"):
        found = served.get(f"/api/v1/sites/{name}/images").json()
        assert {item["image"] for item in found["images"]} >= {ROCKY, CUDA}
    assert served.get("/api/v1/sites/A").json()["name"] == "A"


def test_the_api_says_what_it_does_not_know(served: httpx.Client):
    for path in ("/api/v1/images/nothing/sites", "/api/v1/sites/Nowhere/images"):
        answer = served.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
