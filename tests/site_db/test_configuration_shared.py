"""The real files: all import, nothing to change changes nothing, one attribute is one line, no byte outside moves."""

import functools
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from site_db.configuration.applying import edit, plan
from site_db.configuration.catalogue import read_catalogue
from site_db.configuration.drift import check_drift
from site_db.configuration.edit_xml import xml_edits
from site_db.configuration.edit_yaml import yaml_edits
from site_db.configuration.editing import Change, Edit, apply_edits
from site_db.configuration.importing import Beside, import_files, read_configuration, reader
from site_db.configuration.model import Entry, Parsed
from site_db.rules import default_rules
from site_db.store import Store
from tests.shared_data import shared_data
from tests.site_db.submissions import NOW, sample

RULES = default_rules()
FILES = ("10-noncms-osg.xml", "15-noncms-arc.xml", "OSG_autoconf/10-hosted-ces.auto.yml")
VALUES = {
    "GLIDEIN_SINGULARITY_REQUIRE": ["NEVER", "OPTIONAL", "PREFERRED"],
    "GLIDEIN_Resource_Slots": ["GPUs,1,type=main", "GPUs,8,type=main"],
    "SINGULARITY_BIN": ["OSG", "/opt/apptainer/bin", '/x"<&>\'y', "/opt/ä", ""],
    "SINGULARITY_DISABLE_PID_NAMESPACES": ["1"],
    "GLIDEIN_SINGULARITY_OPTS": ["--userns", "--no-home --userns"],
}


@functools.cache
def real(name: str) -> tuple[Path, bytes, Parsed]:
    path = shared_data("factory", name)
    return path, *read_configuration(path, Beside())


@pytest.fixture(scope="module", params=FILES)
def file(request: pytest.FixtureRequest) -> tuple[Path, bytes, Parsed]:
    return real(request.param)


def test_all_real_files_import_on_both_databases(store: Store) -> None:
    found = import_files(store, [shared_data("factory"), shared_data("topology")], "osg", NOW)
    kinds = ("factory_xml", "autoconf")
    by_kind = {kind: sum(item.entries for item in found.files if item.kind == kind) for kind in kinds}
    assert by_kind == {"factory_xml": 387, "autoconf": 118}
    assert sum(item.resources for item in found.files) > 300
    again = import_files(store, [shared_data("factory")], "osg", NOW)
    assert [(item.new, item.changed, item.vanished) for item in again.files] == [(0, 0, ())] * 5


def _edits(path: Path, data: bytes, changes: Sequence[Change]) -> tuple[list[Edit], dict[str, str]]:
    return (xml_edits if path.suffix == ".xml" else yaml_edits)(data, changes, path.name)


def _change(entry: str, name: str, value: str) -> Change:
    return Change(entry, RULES.attributes[name], value)


def test_what_is_there_already_changes_no_byte(file: tuple[Path, bytes, Parsed]) -> None:
    path, data, parsed = file
    template = RULES.attributes["SINGULARITY_BIN"]
    # Only what the file itself says: in YAML more comes from the defaults.
    changes = [
        Change(entry.name, replace(template, name=setting.name, type=setting.type), setting.value)
        for entry in parsed.entries
        for setting in entry.attrs.values()
        if setting.line is not None and setting.name != "GLIDEIN_REQUIRED_OS"
    ]
    assert len(changes) > 30
    edits, refused = _edits(path, data, changes)
    assert (edits, refused) == ([], {})


def test_nothing_measured_leaves_every_file_as_it_is(store: Store, file: tuple[Path, bytes, Parsed]) -> None:
    path, data, _ = file
    edited = plan(store, path, NOW)
    assert edited.after == data
    assert edited.applied.diff == ""


def test_one_changed_attribute_changes_one_line(file: tuple[Path, bytes, Parsed]) -> None:
    path, data, parsed = file
    name = "GLIDEIN_Resource_Slots"
    own = [entry for entry in parsed.entries if name in entry.attrs and entry.attrs[name].line]
    assert own
    for entry in own[:8]:
        after, refused = edit(data, [_change(entry.name, name, "GPUs,7,type=main")], path, parsed, Beside())
        before_lines, after_lines = data.split(b"\n"), after.split(b"\n")
        assert not refused
        assert len(before_lines) == len(after_lines)
        differ = [n for n, pair in enumerate(zip(before_lines, after_lines, strict=True), 1) if pair[0] != pair[1]]
        assert differ == [entry.attrs[name].line + (path.suffix != ".xml")]


changes_of = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(sorted(VALUES)), st.integers(0, 10)), min_size=1, max_size=12
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("variant", ["as it is", "CR LF", "byte order mark"])
@settings(max_examples=5, deadline=None)
@given(picked=changes_of)
def test_random_proposals_change_nothing_else(name: str, variant: str, picked: list[tuple[int, str, int]]) -> None:
    path, data, parsed = real(name)
    if variant == "CR LF":
        data = data.replace(b"\n", b"\r\n")
    if variant == "byte order mark":
        data = b"\xef\xbb\xbf" + data
    entries = parsed.entries
    wanted = {
        (entries[number % len(entries)].name, attribute): VALUES[attribute][value % len(VALUES[attribute])]
        for number, attribute, value in picked
    }
    changes = [_change(entry, attribute, value) for (entry, attribute), value in wanted.items()]
    edits, refused = _edits(path, data, changes)
    assert not refused
    after, _ = edit(data, changes, path, parsed, Beside())  # reads it again and compares every entry
    assert after == apply_edits(data, edits)
    rest, position, kept = after, 0, []
    for each in sorted(edits):
        kept.append(data[position : each.start])
        position = each.end
    kept.append(data[position:])
    for piece, each in zip(kept, [*sorted(edits), None], strict=True):
        assert rest.startswith(piece)
        rest = rest[len(piece) :]
        if each is not None:
            assert rest.startswith(each.new)
            rest = rest[len(each.new) :]
    assert rest == b""


def _own_names(entry: Entry) -> list[str]:
    """The names of the attributes that stand in the file, in its order."""
    own = [setting for setting in entry.attrs.values() if setting.line]
    return [setting.name for setting in sorted(own, key=lambda setting: setting.line or 0)]


def test_new_attributes_stand_in_the_order_of_names(file: tuple[Path, bytes, Parsed]) -> None:
    path, data, parsed = file
    in_order = [entry for entry in parsed.entries if _own_names(entry) == sorted(_own_names(entry))][:60]
    changes = [_change(entry.name, name, values[0]) for entry in in_order for name, values in VALUES.items()]
    after, refused = edit(data, changes, path, parsed, Beside())
    assert not refused
    again = {entry.name: _own_names(entry) for entry in reader(path, parsed, Beside())(after).entries}
    assert in_order
    assert all(again[entry.name] == sorted(again[entry.name]) for entry in in_order)


def test_the_drift_of_more_than_1058_entries_takes_less_than_two_seconds(store: Store, tmp_path: Path) -> None:
    copies = [tmp_path / f"{number}.xml" for number in range(3)]
    source = shared_data("factory", "10-noncms-osg.xml")
    for number, copy in enumerate(copies):
        shutil.copy(source, copy)
        copy.write_bytes(copy.read_bytes().replace(b'<entry name="', b'<entry name="N%d_' % number))
    import_files(store, [shared_data("factory"), *copies], "factory.example.org", NOW)
    with store.reading() as connection:
        enabled = [item.entry for item in read_catalogue(connection, ()) if item.entry.enabled]
    store.add(
        [
            sample(case, node=number, glidein__entry=entry.name, glidein__resource=entry.resource)
            for number, (entry, case) in enumerate(zip(enabled, cycle(["gpu", "pid_masked", "healthy"]), strict=False))
        ]
    )
    took = []
    for _ in range(3):
        begin = time.perf_counter()
        found = check_drift(store, NOW)
        took.append(time.perf_counter() - begin)
    with store.reading() as connection:
        assert len(read_catalogue(connection, ())) > 1058
    assert found.entries_measured == len(enabled)
    assert found.findings
    assert min(took) < 2  # the best: the machine may have other work
