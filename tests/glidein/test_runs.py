"""The probe inside a glidein: first and periodic runs, by the old and the new contract, under several shells."""

import fcntl
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from probe import classad
from reports import intake
from tests.glidein.glidein_standin import Ended, Glidein, ad_of

Make = Callable[..., Glidein]
QUICK = {"PROBE_ONLY": "host"}
KINDS = {"string": str, "integer": int, "boolean": bool}


def busybox() -> str:
    found = shutil.which("busybox")
    assert found is not None, "the package busybox-static is missing"
    return found


@pytest.mark.parametrize("contract", ["old", "new"])
@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_the_scripts_after_ours_run_and_both_files_stay_whole(glidein: Make, contract: str, shell: str):
    here = glidein(contract)
    ended = here.start(busybox() if shell == "busybox" else None)
    assert here.order() == ["./before 0", "./singularity-probe 0", "./after 0", "./last 0"], ended.stderr
    lines = here.config_lines()
    assert [line for line in lines if line in here.base] == here.base
    config = here.config()
    assert {config[name] for name in ("BEFORE", "AFTER", "LAST")} == {"ran"}
    assert all(len(row) == 7 for row in here.rows())
    names = [row[0] for row in here.rows()]
    assert len(names) == len(set(names))
    assert here.leftovers() == []
    assert "containers work: apptainer 1.4.5" in ended.stdout


def test_attributes_come_back_from_the_machine_ad_with_their_types(glidein: Make):
    here = glidein()
    here.start()
    ad = here.ad()
    ours = {name: value for name, value in ad.items() if name.startswith("PROBE_")}
    assert ours["PROBE_SINGULARITY_USABLE"] is True
    assert ours["PROBE_STATUS"] == "ok"
    assert ours["PROBE_SINGULARITY_PATH"] == str(here.work / "bin/apptainer")
    for name, value in ours.items():
        assert type(value) is KINDS[classad.ATTRIBUTES[name][0]], name
    assert "PROBE_CHANGED" not in ours


def test_a_second_first_run_replaces_its_rows_and_adds_none(glidein: Make):
    here = glidein(**QUICK)
    (here.work / "scripts").write_text("./singularity-probe main\n./singularity-probe client\n")
    here.start()
    names = [row[0] for row in here.rows()]
    assert len(names) == len(set(names))
    lines = [line.split(" ")[0] for line in here.config_lines() if line.startswith("PROBE_")]
    assert len(lines) == len(set(lines))


def reports_in(spool: Path) -> list[dict[str, object]]:
    return sorted(
        (json.loads(path.read_text()) for path in spool.glob("*.json")), key=lambda report: str(report["created_at"])
    )


def periodic(here: Glidein) -> Ended:
    ended = here.run_periodically()
    assert (ended.code, ended.stderr) == (0, "")
    return ended


@pytest.mark.parametrize("contract", ["old", "new"])
def test_a_periodic_run_looks_again_at_what_may_have_changed(glidein: Make, tmp_path: Path, contract: str):
    here = glidein(contract, PROBE_SPOOL=str(tmp_path / "spool"))
    here.start()
    for _ in range(2):  # the first one may look at everything: its environment is another
        last = ad_of(here.run_periodically().stdout)
    before = here.work.joinpath("glidein_config").read_bytes()
    last = ad_of(here.run_periodically().stdout)
    assert (last["PROBE_STATUS"], last["PROBE_CHANGED"], last["PROBE_SINGULARITY_USABLE"]) == ("ok", "none", True)
    assert here.work.joinpath("glidein_config").read_bytes() == before
    assert here.result("otrb_periodic.xml").findtext("result/status") == "OK"
    for path in (tmp_path / "spool").glob("*.json"):
        intake.validate(path.read_bytes())
    report = reports_in(tmp_path / "spool")[-1]
    assert report["probe"]["trigger"] == "periodic"  # type: ignore[index]  a report
    assert report["changes_since"] == []
    assert {row["detector"] for row in report["remembered"]} >= {"host", "images"}  # type: ignore[attr-defined]  a list
    assert "singularity" not in {row["detector"] for row in report["remembered"]}  # type: ignore[attr-defined]  a list
    assert here.leftovers() == []


def test_a_change_is_seen_marked_and_written_for_the_jobs(glidein: Make):
    here = glidein()
    here.start()
    here.run_periodically()
    here.script("bin/apptainer", "#!/bin/sh\ncase $1 in --version) echo apptainer version 1.4.5 ;; *) exit 255 ;; esac\n")
    ad = ad_of(here.run_periodically().stdout)
    assert ad["PROBE_SINGULARITY_USABLE"] is False
    assert "singularity" in ad["PROBE_CHANGED"].split(",")
    assert here.config()["PROBE_SINGULARITY_USABLE"] == "False"


def test_a_required_capability_that_is_missing_ends_the_glidein_with_type_cause_and_remedy(glidein: Make):
    here = glidein(PROBE_REQUIRE="singularity,gpu")
    assert here.start(CUDA_VISIBLE_DEVICES="").code == 1
    assert here.order() == ["./before 0", "./singularity-probe 1"]
    result = here.result()
    assert result.findtext("result/status") == "ERROR"
    assert [row.text for row in result.iter("metric") if row.get("name") == "failure"] == ["WN_Resource"]
    detail = result.findtext("detail") or ""
    assert "gpu is required" in detail
    assert "gpu_none" in detail


def test_what_is_not_known_ends_no_glidein_unless_that_is_asked_for(glidein: Make):
    here = glidein(PROBE_REQUIRE="sif", **QUICK)
    here.start()
    assert "./singularity-probe 0" in here.order()
    (here.work / "order").unlink()
    assert here.start(PROBE_REQUIRE_KNOWN="yes").code == 1
    assert here.result().findtext("result/status") == "ERROR"


def test_wrong_settings_are_told_and_end_nothing(glidein: Make):
    here = glidein(PROBE_DEADLINE="soon", PROBE_REQUIRE="no_such", PROBE_ONLY="host,no_such", PROBE_TYPO="1")
    ended = here.start()
    assert "./last 0" in here.order()
    for words in ("PROBE_DEADLINE is 'soon'", "no_such: no such capability", "no detector 'no_such'", "PROBE_TYPO"):
        assert words in ended.stderr


def test_the_names_that_others_match_on_are_published_on_request_with_their_types(glidein: Make):
    here = glidein(PROBE_PUBLISH="gwms,ospool,start", GLIDEIN_PROVIDES="other/thing", GLIDEIN_Singularity_Use="REQUIRED")
    here.start()
    ad = here.ad()
    assert (ad["HAS_SINGULARITY"], ad["SINGULARITY_MODE"], ad["GWMS_SINGULARITY_STATUS"]) == (True, "privileged", "REQUIRED")
    assert ad["CONTAINERSW_VERSION"] == "1.4.5"
    assert ad["GLIDEIN_PROVIDES"] == "other/thing,singularity/privileged"
    assert type(ad["OSG_HOST_KERNEL_VERSION"]) is int
    assert ad.eval("PROBE_START") is True
    assert here.config()["HAS_SINGULARITY"] == "True"
    assert "SINGULARITY_CAN_USE_REGISTRY" not in ad
    here.script("bin/apptainer", "#!/bin/sh\nexit 255\n")
    here.start()
    assert here.ad()["GLIDEIN_PROVIDES"] == "other/thing"


def test_nothing_of_others_is_published_unasked(glidein: Make):
    here = glidein(**QUICK)
    here.start()
    assert {row[0] for row in here.rows() if not row[0].startswith("PROBE_")} == {"GLIDEIN_Site", "X509_EXPIRE"}


def test_the_whole_report_leaves_as_an_attribute_and_as_a_block(glidein: Make):
    here = glidein(PROBE_REPORT_ATTRIBUTE="yes", PROBE_STDOUT_REPORT="yes", **QUICK)
    ended = here.start()
    assert "[probe:" in ended.stdout
    assert here.ad()["PROBE_REPORT"].startswith("1:")


@pytest.mark.parametrize("log", ["/dev/full", "/dev/null"])
def test_a_log_on_a_full_disk_ends_no_glidein(glidein: Make, log: str):
    here = glidein(PROBE_DEADLINE="soon", **QUICK)
    here.script("loud", f'#!/bin/sh\nexec "{here.work}/singularity-probe" "$@" 2>{log} >{log}\n')
    (here.work / "scripts").write_text("./after main\n./loud main\n")
    here.start()
    assert here.order() == ["./after 0", "./loud 0"]
    assert here.result().findtext("result/status") == "OK"
    assert here.config()["PROBE_STATUS"] == "ok"


def test_no_secret_of_an_image_or_of_the_environment_is_written_anywhere(glidein: Make, tmp_path: Path):
    here = glidein(PROBE_SPOOL=str(tmp_path / "spool"), PROBE_STDOUT_REPORT="yes", PROBE_REPORT_ATTRIBUTE="yes")
    environment = {"PROBE_IMAGES": "https://user:s3cr3t@localhost:1/x.sif", "APPTAINER_DOCKER_PASSWORD": "s3cr3t"}
    told = here.start(**environment)
    told = told._replace(stdout=told.stdout + here.run_periodically(**environment).stdout)
    report = reports_in(tmp_path / "spool")[0]
    assert [row["ref"] for row in report["images"]] == ["https://localhost:1/x.sif"]  # type: ignore[attr-defined]  a list
    assert "s3cr3t" not in told.stdout + told.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "modules"]
    assert {"memory.json", "glidein_config"} <= {path.name for path in files}
    assert [path for path in files if b"s3cr3t" in path.read_bytes()] == []


def test_one_run_at_a_time_the_other_tells_what_is_known(glidein: Make):
    here = glidein(**QUICK)
    here.start()
    with (here.work / ".singularity-probe/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = here.run_periodically()
    ad = ad_of(ended.stdout)
    assert (ended.code, ad["PROBE_STATUS"]) == (0, "busy")
    assert ad["PROBE_VERSION"] == here.ad()["PROBE_VERSION"]


@pytest.mark.parametrize("garbage", [b"\0\xff" * 500, b"[" * 100_000])
def test_garbage_where_runs_remember_things_is_as_nothing(glidein: Make, garbage: bytes):
    here = glidein(**QUICK)
    here.start()
    here.run_periodically()
    folder = here.work / ".singularity-probe"
    for name in ("memory.json", "launch", "python", "modules", "started"):
        (folder / name).write_bytes(garbage)
    assert ad_of(periodic(here).stdout)["PROBE_STATUS"] == "ok"
    assert json.loads((folder / "memory.json").read_bytes())["findings"]


def test_a_folder_of_somebody_else_is_not_used(glidein: Make):
    here = glidein(**QUICK)
    folder = here.work / ".singularity-probe"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    here.start()
    assert list(folder.iterdir()) == []
    assert here.config()["PROBE_STATUS"] == "ok"


def test_a_missing_vars_file_is_told_and_not_made(glidein: Make):
    here = glidein(**QUICK)
    (here.work / "condor_vars.lst").unlink()
    ended = here.start()
    assert "condor_vars.lst: No such file" in ended.stderr
    assert not (here.work / "condor_vars.lst").exists()
    assert here.order()[-1] == "./last 0"
