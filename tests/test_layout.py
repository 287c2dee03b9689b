"""Rules of the repository that a machine holds: who imports whom, who prints, what is documented, what must exist."""

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probe import classad, stderr_rules
from probe.checks import STATUSES
from probe.detectors import singularity

ROOT = Path(__file__).parents[1]
PACKAGES = ("probe", "site_db", "reports")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The top-level names that a module imports, with their lines."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the package's name"
            yield (node.module or "").split(".")[0], node.lineno


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


# --- imports ---

FORBIDDEN = [
    ("site_db", {"probe", "reports", "scripts", "tests"}),
    ("reports", {"probe", "scripts", "tests"}),
    ("probe", {"site_db", "reports", "scripts", "tests"}),
]
# One version for the whole product stands in probe/version.py; reading it is no use of the probe.
ALLOWED = {("reports/version.py", "probe")}


@pytest.mark.parametrize(("package", "forbidden"), FORBIDDEN)
def test_imports_run_one_way(package: str, forbidden: set[str]):
    wrong = [
        f"{place(path, line)} imports {name}"
        for path in modules(package)
        for name, line in imports(path)
        if name in forbidden and (str(path.relative_to(ROOT)), name) not in ALLOWED
    ]
    assert wrong == []


def test_the_probe_imports_the_standard_library_and_itself_only():
    """That nothing of it is newer than 3.6 is held by tests/test_python_floor.py."""
    wrong = [
        f"{place(path, line)} imports {name}"
        for path in modules("probe")
        for name, line in imports(path)
        if name not in sys.stdlib_module_names | {"probe"}
    ]
    assert wrong == []


def test_detectors_do_not_import_the_engine_but_for_its_types():
    """The engine owns time and failure; a detector that calls it would own a part of them."""
    for path in modules("probe/detectors"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "probe.engine":
                assert [alias.name for alias in node.names] == ["Findings"], place(path, node.lineno)
            if isinstance(node, ast.ImportFrom) and node.module == "probe.workers":
                assert [alias.name for alias in node.names] == ["Result"], place(path, node.lineno)


# --- style that decides ---

PRINTERS = {"cli.py", "output.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_only_the_command_line_prints(package: str):
    wrong = [
        place(path, node.lineno)
        for path in modules(package)
        if path.name not in PRINTERS
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert wrong == []


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether it swallows whatever comes; one that cleans up and raises again does not."""
    if isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None:
        return False
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in kinds
    )


@pytest.mark.parametrize("package", [*PACKAGES, "tests"])
def test_a_broad_except_has_its_reason_on_the_line(package: str):
    wrong = []
    for path in modules(package):
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(parsed(path)):
            if not (isinstance(node, ast.ExceptHandler) and is_broad(node)):
                continue
            if not re.search(r"#\s*noqa: BLE001\W+\w+ \w+", lines[node.lineno - 1]):
                wrong.append(place(path, node.lineno))
    assert wrong == []


def test_detectors_have_no_broad_except():
    wrong = [
        place(path, node.lineno)
        for path in modules("probe/detectors")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", [*PACKAGES, "tests", "scripts"])
def test_every_exception_to_a_tool_has_its_reason(package: str):
    """``noqa`` and ``type: ignore`` name their rule, and a word of why follows."""
    form = re.compile(r"#\s*(?:(?:ruff: )?noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*|type: ignore\[[a-z, -]+\])\W+\w+")
    programs = [path for path in (ROOT / package).iterdir() if path.is_file()] if package == "scripts" else []
    wrong = []
    for path in [*modules(package), *programs]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(r"#\s*(ruff: )?noqa|#\s*type: ignore", line) and "re." not in line and not form.search(line):
                wrong.append(place(path, number))
    assert wrong == []


@pytest.mark.parametrize("package", [*PACKAGES, "tests", "scripts"])
def test_modules_are_named_after_their_topic(package: str):
    assert [str(path) for path in modules(package) if path.stem in ("utils", "util", "common", "helpers", "misc")] == []


# --- reason codes ---

# What the interface promises; additions are free.
PROMISED = """
runtime_not_found runtime_timeout runtime_wrong_output runtime_crashed userns_unsupported userns_disabled
userns_limit_reached userns_restricted_apparmor userns_denied userns_map_denied mount_denied proc_masked
proc_hidepid setuid_not_installed setuid_bit_missing setuid_on_nosuid_mount setuid_disabled_by_config
setuid_in_namespace fuse_device_missing fuse_device_denied fuse_mount_denied squashfuse_missing loop_unavailable
sif_disallowed_by_config sif_compression_unsupported sif_converted_to_sandbox no_overlay_or_underlay
autofs_not_visible_inside user_unknown home_unusable scratch_full scratch_out_of_inodes scratch_read_only
cgroup_denied newuidmap_missing image_missing image_unreadable image_wrong_arch image_needs_newer_kernel
image_needs_newer_cpu registry_unreachable registry_rate_limited cvmfs_not_mounted cvmfs_repository_missing
cvmfs_hung cvmfs_disconnected cvmfs_io_error cvmfs_access_denied cvmfs_stale cvmfs_data_unreadable gpu_none
gpu_device_missing gpu_device_denied gpu_driver_missing gpu_driver_mismatch gpu_uvm_missing gpu_not_visible
gpu_library_glibc_too_new gpu_container_failed network_unreachable python_missing deadline_reached probe_error
"""
FIELDS = {"code", "title", "jobs", "site_remedy", "factory_remedy", "source"}
# Codes after which nobody has to do anything.
NOTHING_TO_DO = {"not_requested", "not_applicable", "prerequisite_failed", "cannot_be_tried"}

ROWS: list[dict[str, Any]] = json.loads((ROOT / "probe/data/reasons.json").read_text(encoding="utf-8"))["reasons"]
CODES = {row["code"] for row in ROWS}


def reasons_passed(path: Path) -> Iterator[tuple[str, int]]:
    """The literals that are passed as the reason of a check: check(id, status, REASON, ...)."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            given = node.args[2:3] + [word.value for word in node.keywords if word.arg == "reason"]
            for value in given:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value, value.lineno


def statuses_and_reasons(path: Path) -> Iterator[tuple[str, int]]:
    """The second of ("fail", "REASON", ...): how judgements are returned."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Tuple) and len(node.elts) >= 2:
            words = [item.value if isinstance(item, ast.Constant) else None for item in node.elts[:2]]
            if words[0] in STATUSES and isinstance(words[1], str) and words[1] not in STATUSES:
                yield words[1], node.lineno


@pytest.mark.parametrize("path", modules("probe"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_reason_that_the_probe_gives_has_a_row(path: Path):
    wrong = [
        f"{place(path, line)}: {code}"
        for code, line in [*reasons_passed(path), *statuses_and_reasons(path)]
        if code not in CODES
    ]
    assert wrong == []


def test_every_reason_of_the_rules_for_messages_has_a_row():
    assert {rule["reason"] for rule in stderr_rules.rules()} <= CODES


def test_the_promised_codes_are_all_there():
    assert set(PROMISED.split()) <= CODES


def test_codes_are_listed_once():
    assert len(ROWS) == len(CODES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["code"])
def test_a_row_has_all_fields(row: dict[str, Any]):
    assert set(row) == FIELDS
    assert re.fullmatch(r"[a-z][a-z0-9_]{1,63}", row["code"])
    for field in ("title", "jobs", "source"):
        assert row[field], field
    if row["code"] not in NOTHING_TO_DO:
        assert row["site_remedy"] or row["factory_remedy"], "neither the site nor the factory is told what to do"
    for field in ("title", "jobs", "site_remedy", "factory_remedy"):
        assert not (row[field] or "").startswith(" ")
        assert "\n" not in (row[field] or "")


# --- documentation ---


def words_of(name: str) -> set[str]:
    """The words in backquotes and code of a page."""
    return set(re.findall(r"[\w-]+(?::[A-Z]+)?", (ROOT / "docs" / name).read_text(encoding="utf-8")))


def test_every_reason_code_is_documented():
    assert CODES - words_of("reason-codes.md") == set()


def test_every_classad_attribute_is_documented():
    assert set(classad.ATTRIBUTES) - words_of("attributes.md") == set()


def options_of_the_probe() -> set[str]:
    """Every option and command, from the source: the parser is built without running it."""
    found = set()
    for node in ast.walk(parsed(ROOT / "probe/by_hand.py")):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"--[a-z][a-z-]+", node.value)
        ):
            found.add(node.value)
    return found


def test_the_options_of_the_probe_are_found_in_its_source():
    assert {"--deadline", "--require", "--cvmfs-mount-dir"} <= options_of_the_probe()


def test_every_option_of_the_probe_is_documented():
    documented = {word for word in words_of("singularity-probe.md") if word.startswith("--")}
    assert options_of_the_probe() - documented == set()


def test_every_captured_host_is_described_by_a_page():
    assert (ROOT / "docs/captured-hosts.md").exists()


# --- the schema and the code ---


def test_the_features_of_the_schema_are_those_of_the_detectors():
    schema = json.loads((ROOT / "reports/schema/report-1.0.json").read_text(encoding="utf-8"))
    required = schema["properties"]["singularity"]["properties"]["features"]["required"]
    own_detector = {"cvmfs_inside"}
    came_later = {"cgroups"}  # reports of earlier probes are without it, and stay valid
    assert set(required) | came_later == set(singularity.FEATURES) | own_detector


def test_the_schemas_states_are_those_of_the_checks():
    schema = json.loads((ROOT / "reports/schema/report-1.0.json").read_text(encoding="utf-8"))
    assert schema["$defs"]["status"]["enum"] == list(STATUSES)


def test_every_table_of_the_reports_sections_is_in_the_schema():
    from probe.report import SECTIONS

    schema = json.loads((ROOT / "reports/schema/report-1.0.json").read_text(encoding="utf-8"))
    assert set(SECTIONS) <= set(schema["required"])
