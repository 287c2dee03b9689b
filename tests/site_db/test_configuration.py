"""Importing configuration: what is read, what is refused, what a second import does, what joins with what."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from site_db import tables
from site_db.configuration.autoconf import Sources, entry_defaults, load_yaml, parse_autoconf
from site_db.configuration.catalogue import read_catalogue, read_policy, unjoined
from site_db.configuration.factory_xml import parse_factory_xml
from site_db.configuration.importing import import_files
from site_db.configuration.model import BrokenFile, Entry
from site_db.configuration.policy import parse_policy
from site_db.configuration.registries import parse_cric, parse_topology
from site_db.configuration.vanishing import forget_file
from site_db.errors import UnknownName
from site_db.store import Store
from tests.site_db.factory_files import ENTRY, POLICY, RESOURCE, SITE, factory_xml, write_factory, write_policy
from tests.site_db.submissions import NOW, sample


def test_an_entry_is_read_with_types_flags_and_lines() -> None:
    text = factory_xml({"E": {"A": 'x"<'}}).replace('const="True"', 'const="False"', 1)
    [entry] = parse_factory_xml(text.encode(), "f.xml").entries
    assert (entry.name, entry.enabled, entry.line, entry.site, entry.resource) == ("E", True, 3, SITE, RESOURCE)
    setting = entry.attrs["A"]
    assert (setting.value, setting.type, setting.line) == ('x"<', "string", 5)
    assert setting.flags == {"const": "False", "publish": "True"}


BOMB = '<!DOCTYPE g [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><g><entries><entry name="&b;"/></entries></g>'
OUTSIDE = '<!DOCTYPE g [<!ENTITY a SYSTEM "file:///etc/passwd">]><g><entries><entry name="E">&a;</entry></entries></g>'


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (BOMB, "f.xml:1", "document type"),
        (OUTSIDE, "f.xml:1", "document type"),
        ("<glidein>\n <entries>\n  <entry>\n", "f.xml:4:1", "not well-formed"),
        ('<glidein>\n<entries><entry name="a>\n', "f.xml:2", "not well-formed"),
        ("<g/>", "f.xml:1", "no <entries>"),
        ("<g><entries>\n<entry/></entries></g>", "f.xml:2", "without a name"),
        ("", "f.xml:1", "not well-formed"),
        ('<?xml version="1.0" encoding="nonsense"?><g/>', "f.xml:1", "encoding"),
        ("<a>" * 1000, "f.xml:1", "nested too deeply"),
    ],
)
def test_what_is_no_factory_file_is_refused_with_its_place(text: str, place: str, words: str) -> None:
    with pytest.raises(BrokenFile, match=words) as raised:
        parse_factory_xml(text.encode(), "f.xml")
    assert raised.value.place.startswith(place)


@given(st.binary(max_size=200) | st.text(alphabet='<>"=/ aentris&;!-[]?', max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (
        lambda: parse_factory_xml(data, "f"),
        lambda: parse_autoconf(data, "f", Sources()),
        lambda: parse_cric(data, "f"),
        lambda: parse_policy(data, "f"),
    ):
        with contextlib.suppress(BrokenFile):
            assert read().kind


WHITELIST = """
S:
  common_entry_fields: {attrs: {GLIDEIN_Country: {value: CA}, A: {value: common}}}
  ce.example.org:
    BEST_FIT:
      E:
        attrs:
          A: {value: '&quot;own&quot;'}
          N: {value: 1, job_publish: True}
        submit_attrs: {Request_GPUs: 4, +queue: '&quot;q&quot;'}
      F:
"""
DEFAULTS = b"""
DEFAULT_SITE: {DEFAULT_GETEKEEPER: {DEFAULT_ENTRY: {enabled: True, attrs: {
  GLIDEIN_CPUS: {value: 1}, GLIDEIN_Country: {value: US}, A: {value: default, type: string}, T: {type: int}}}}}
"""
COLLECTED = """
S: {ce.example.org: {BEST_FIT: {DEFAULT_ENTRY: {gridtype: condor, attrs: {GLIDEIN_Site: {value: G},
  GLIDEIN_ResourceName: {value: R}, N: {value: 9}}}}}}
"""


def test_a_whitelist_is_merged_as_the_generator_does_it() -> None:
    sources = Sources(entry_defaults(load_yaml(DEFAULTS, "d"), "d"), load_yaml(COLLECTED.encode(), "c"))
    entry, plain = parse_autoconf(WHITELIST.encode(), "w.yml", sources).entries
    assert entry.values() == {
        "A": '"own"',
        "GLIDEIN_CPUS": "1",
        "GLIDEIN_Country": "CA",
        "GLIDEIN_REQUIRED_OS": "any",
        "GLIDEIN_ResourceName": "R",
        "GLIDEIN_Resource_Slots": "GPUs,4,type=main",
        "GLIDEIN_Site": "G",
        "N": "1",
    }
    assert entry.submit_attrs["+queue"].value == '"q"'
    assert (entry.line, entry.attrs["A"].line, entry.attrs["GLIDEIN_Country"].line) == (6, 8, None)
    assert entry.attrs["N"].flags["job_publish"] == "True"
    assert plain.values()["A"] == "common"
    assert plain.values()["GLIDEIN_CPUS"] == "1"


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("", None),
        ("{value: NO}", "False"),
        ("{value: N}", "N"),
        ("{value: normal}", "normal"),
        ("{value: Yale}", "Yale"),
        ("{value: 010}", "8"),
    ],
)
def test_values_are_those_that_the_generator_reads(said: str, value: str | None) -> None:
    text = f"S:\n  g:\n    BEST_FIT:\n      E:\n        attrs:\n          A: {said}\n"
    sources = Sources(entry_defaults(load_yaml(DEFAULTS, "d"), "d"))
    assert parse_autoconf(text.encode(), "w.yml", sources).entries[0].value("A") == value


def test_without_the_collectors_word_the_site_is_the_key_above() -> None:
    entry = parse_autoconf(WHITELIST.encode(), "w.yml", Sources()).entries[1]
    assert (entry.site, entry.resource, entry.section) == ("S", None, "S/ce.example.org/BEST_FIT")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [", "w.yml:1:5"),
        ("a:\n\tb: 1", "w.yml:2:1"),
        ("a: text", "w.yml:1"),
        ("a:\n  g:\n    s:\n      E: text\n", "w.yml:4"),
        ("- a", "w.yml:1"),
        ("a: 1\na: 2", "w.yml"),
        ('a: {g: {s: {E: {enabled: !!bool x}}}}', "w.yml"),
        ('a: {g: {s: {E: {enabled: !!int ""}}}}', "w.yml"),
        ('a: {g: {s: {E: {enabled: !!timestamp x}}}}', "w.yml"),
        ('a: {g: {s: {E: {enabled: 2026-99-99}}}}', "w.yml"),
    ],
)
def test_a_broken_whitelist_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(BrokenFile) as raised:
        parse_autoconf(text.encode(), "w.yml", Sources())
    assert raised.value.place.startswith(place)


def _aliases(depth: int, shape: str) -> str:
    lines = ["S:", "  common_entry_fields:", "    b0: &b0 {a: 1}"]
    for number in range(1, depth):
        below = [shape.format(number=n) + f"*b{number - 1}" for n in range(10)]
        lines.append(f"    b{number}: &b{number} " + ("{%s}" if shape else "[%s]") % ", ".join(below))
    return "\n".join([*lines, "  G:", "    sec:", "      E:", "        attrs: {}"])


@pytest.mark.parametrize("text", [_aliases(12, "k{number}: "), _aliases(12, ""), "S:\n  G:\n    s:\n      E: &e {attrs: *e}\n"])
def test_aliases_do_not_unfold_without_bound(text: str) -> None:
    with pytest.raises(BrokenFile, match=r"unfold to more than|inside of what it refers to"):
        parse_autoconf(text.encode(), "w.yml", Sources())


def test_aliases_are_read() -> None:
    [entry] = parse_autoconf(_aliases(3, "k{number}: ").encode(), "w.yml", Sources()).entries
    assert entry.name == "E"


def test_topology_gives_resources_and_sites_without_any() -> None:
    files = {
        ("Uni", "Site", "SITE.yaml"): b"Country: Sweden",
        ("Uni", "Site", "Group.yaml"): b"Resources:\n  R1: {FQDN: ce.example.org, Active: true}\n  R2:\n",
        ("Uni", "Empty", "SITE.yaml"): b"ID: 1",
        ("Uni", "Site", "Odd.yaml"): b"[]",
    }
    found = parse_topology(files)
    assert [(item.name, item.site, item.resource_group, item.fqdn, item.active) for item in found.resources] == [
        ("R1", "Site", "Group", "ce.example.org", True),
        ("R2", "Site", "Group", None, None),
        ("", "Empty", None, None, None),
    ]
    assert found.resources[0].country == "Sweden"
    assert [problem.place for problem in found.problems] == ["Uni/Site/Odd.yaml"]


@pytest.mark.parametrize("country", ["NO", "[1, 2]", "{a: b}", "~", "1"])
def test_a_country_that_is_no_text_ends_no_import(store: Store, tmp_path: Path, country: str) -> None:
    site = tmp_path / "Uni" / "Site"
    site.mkdir(parents=True)
    (site / "SITE.yaml").write_text(f"Country: {country}\n")
    (site / "Group.yaml").write_text("Resources: {R: {FQDN: NO}}\n")
    [file] = import_files(store, [tmp_path], "", NOW).files
    assert (file.kind, file.resources) == ("topology", 1)
    with store.reading() as connection:
        [row] = connection.execute(select(tables.registered_resources))
    assert (row.country, row.fqdn) == ("1" if country == "1" else None, None)


CRIC = {
    "T2_XX_One": {
        "name": "T2_XX_One",
        "facility": "One",
        "country": "XX",
        "state": "ACTIVE",
        "resources": [{"name": "One-CE1", "endpoint": "https://ce1.one.example:9619", "state": "DISABLED"}],
    },
    "T2_XX_Two": {"name": "T2_XX_Two", "state": "ACTIVE"},
}


@pytest.mark.parametrize("document", [CRIC, list(CRIC.values())])
def test_cric_gives_sites_with_and_without_resources(document: object) -> None:
    found = parse_cric(json.dumps(document).encode(), "cric.json").resources
    assert [(item.name, item.site, item.facility, item.fqdn, item.active) for item in found] == [
        ("One-CE1", "T2_XX_One", "One", "ce1.one.example", False),
        ("", "T2_XX_Two", None, None, True),
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"pin_entry"', '"pin"', "action is to be one of"),
        ("author =", "owner =", "no such member: owner"),
        ('reason = "ticket 4711"\n', "", "reason"),
        ("expires = 2027-01-31", 'expires = "soon"', "expires"),
        ("expires = 2027-01-31", "expires = 2026-10-31", "before its date"),
        ("[[policy]]", "[[politics]]", "nothing else"),
        ("dated = 2026-11-01", "dated = ", "not valid TOML"),
        ("dated", 'entry = "E"\ndated', "entry goes with"),
    ],
)
def test_a_policy_says_who_why_and_until_when(old: str, new: str, words: str) -> None:
    text = POLICY.format(action="pin_entry", target="E", expires="2027-01-31")
    assert parse_policy(text.encode(), "p.toml").policy[0].line == 2
    with pytest.raises(BrokenFile, match=words) as raised:
        parse_policy(text.replace(old, new).encode(), "p.toml")
    assert raised.value.place.startswith("p.toml:")


def test_an_import_is_stored_and_a_second_one_updates_it(store: Store, tmp_path: Path) -> None:
    path = write_factory(tmp_path, {"A": {"X": "1"}, "B": {}})
    [first] = import_files(store, [path], "f", NOW).files
    assert (first.entries, first.new, first.changed, first.vanished) == (2, 2, 0, ())
    write_factory(tmp_path, {"A": {"X": "2"}, "C": {}})
    [second] = import_files(store, [path], "f", NOW).files
    assert (second.entries, second.new, second.changed, second.vanished) == (2, 1, 1, ("B",))
    with store.reading() as connection:
        assert {item.entry.name: item.entry.value("X") for item in read_catalogue(connection)} == {"A": "2", "C": None}
    write_factory(tmp_path, {"A": {"X": "2"}, "B": {}, "C": {}})
    [third] = import_files(store, [path], "f", NOW).files
    assert (third.new, third.changed, third.vanished) == (0, 2, ())  # C has moved to another line


def _configured(store: Store) -> dict[str, str | None]:
    with store.reading() as connection:
        return {item.entry.name: item.entry.value("X") for item in read_catalogue(connection)}


def test_what_a_folder_has_no_more_counts_no_more_and_is_named(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "config.d"
    folder.mkdir()
    old = write_factory(folder, {"A": {"X": "old"}, "Gone": {}}, "20.xml")
    policy = write_policy(folder, "pin_entry", "A")
    beside = write_factory(tmp_path, {"Beside": {}}, "30.xml")
    import_files(store, [folder, beside], "f", NOW)
    import_files(store, [folder], "other", NOW)
    old.rename(folder / "10.xml")
    policy.unlink()
    write_factory(folder, {"A": {"X": "new"}}, "10.xml")
    found = import_files(store, [folder], "f", NOW)
    assert [(Path(file.path).name, file.vanished, file.policy_rows) for file in found.files] == [
        ("10.xml", (), 0),
        ("20.xml", ("A", "Gone"), 0),
        ("pin_entry.toml", (), 1),
    ]
    assert all("is gone" in file.problems[0].text for file in found.files[1:])
    with store.reading() as connection:
        of_factory = {item.key: item.entry.value("X") for item in read_catalogue(connection)}
        assert [row.target for row in read_policy(connection, NOW.date()).rows] == ["A"]  # as the other factory imported it
    assert {key[1]: value for key, value in of_factory.items() if key[0] == "f"} == {"A": "new", "Beside": None}
    assert ("other", "Gone") in of_factory
    assert import_files(store, [folder], "f", NOW).files[1:] == ()
    write_factory(folder, {"Gone": {}}, "20.xml")
    import_files(store, [folder], "f", NOW)
    assert "Gone" in _configured(store)


def _common(*attrs: str, inside: str = "") -> str:
    return f"<glidein><attrs>{''.join(attrs)}</attrs>{inside}</glidein>"


def _entries(store: Store) -> dict[str, Entry]:
    with store.reading() as connection:
        return {item.entry.name: item.entry for item in read_catalogue(connection)}


def test_what_the_factory_sets_for_all_entries_holds_unless_an_entry_says_otherwise(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "config.d"
    folder.mkdir()
    attr = '<attr name="{}" const="False" value="{}"/>'.format
    (tmp_path / "glideinWMS.xml").write_text(_common(attr("A", "main"), attr("B", "main"), inside="<entries/>"))
    (folder / "00-all.xml").write_text(_common(attr("B", "00")))
    write_factory(folder, {"E": {}, "F": {"B": "own"}})
    imported = import_files(store, [folder], "f", NOW)
    assert [(Path(file.path).name, file.entries) for file in imported.files] == [("00-all.xml", 0), ("10.xml", 2)]
    found = _entries(store)
    assert {name: (entry.value("A"), entry.value("B")) for name, entry in found.items()} == {
        "E": ("main", "00"),
        "F": ("main", "own"),
    }
    assert (found["E"].attrs["B"].line, found["E"].attrs["B"].flags) == (None, {"const": "False"})
    (tmp_path / "glideinWMS.xml").write_text("<glidein>")
    [file] = import_files(store, [folder / "10.xml"], "f", NOW).files
    assert ["glideinWMS.xml" in problem.place for problem in file.problems] == [True]
    assert _entries(store)["E"].value("A") is None


def test_a_set_of_entries_is_one_entry_by_its_alias() -> None:
    inner = '<entries><entry name="one" gatekeeper="a:1"/><entry name="two" gatekeeper="b:1"/></entries>'
    attrs = '<attrs><attr name="X" value="1"/></attrs>'
    text = f'<glidein><entry_sets><entry_set alias="S" enabled="True">{attrs}{inner}</entry_set></entry_sets></glidein>'
    [entry] = parse_factory_xml(text.encode(), "f.xml").entries
    assert (entry.name, entry.enabled, entry.gatekeeper, entry.values()) == ("S", True, "a:1", {"X": "1"})


def test_a_file_is_forgotten_on_request(store: Store, tmp_path: Path) -> None:
    path = write_factory(tmp_path, {"A": {}})
    import_files(store, [path], "f", NOW)
    path.unlink()
    assert [file.vanished for file in forget_file(store, path, NOW, "f").files] == [("A",)]
    assert _configured(store) == {}
    for factory, other in (("g", path), (None, tmp_path / "never.xml")):
        with pytest.raises(UnknownName):
            forget_file(store, other, NOW, factory)


def test_one_broken_file_leaves_nothing_half_imported(store: Store, tmp_path: Path) -> None:
    good, bad = write_factory(tmp_path, {"A": {}}), tmp_path / "20.xml"
    bad.write_text("<glidein><entries>", encoding="utf-8")
    with pytest.raises(BrokenFile, match=r"20\.xml:1"):
        import_files(store, [good, bad], "f", NOW)
    with store.reading() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.configuration_files)) == 0


def test_of_an_entry_in_several_files_the_last_by_name_counts(store: Store, tmp_path: Path) -> None:
    paths = [write_factory(tmp_path, {"A": {"X": name}}, name) for name in ("20.xml", "10.xml")]
    [problem] = import_files(store, paths, "f", NOW).problems
    assert problem.place.endswith("20.xml:3")
    with store.reading() as connection:
        [entry] = read_catalogue(connection)
    assert (entry.entry.value("X"), Path(entry.file).name) == ("20.xml", "20.xml")


def test_hostile_names_and_values_are_stored_harmless(store: Store, tmp_path: Path) -> None:
    write_factory(tmp_path, {"A&#x1F600;": {"X": "a\u202eb\u0085c"}})
    import_files(store, [tmp_path], "f", NOW)
    with store.reading() as connection:
        [entry] = read_catalogue(connection)
    assert entry.entry.value("X") == "a\u202eb\ufffdc"


def test_what_has_no_counterpart_is_listed(store: Store, tmp_path: Path) -> None:
    write_factory(tmp_path, {"Silent": {"GLIDEIN_ResourceName": "Elsewhere"}, "Neighbour": {}, "Foreign": {}})
    (tmp_path / "cric.json").write_text(json.dumps(CRIC), encoding="utf-8")
    import_files(store, [tmp_path], "f", NOW)
    store.add([sample(), sample(node=2, glidein__entry="Foreign", glidein__factory="g")])
    with store.reading() as connection:
        found = {(item.kind, item.name): item.why for item in unjoined(connection).names}
    assert "nor did any other" in found["entry", "Silent"]
    assert "others reported" in found["entry", "Neighbour"]
    assert "no imported file" in found["report", ENTRY]
    assert "no imported file" in found["report", "Foreign"]
    assert found["entry", "Foreign"] == "never reported by f; this name is by g"
    assert ("resource", "Elsewhere") in found
    assert ("site", SITE) in found


def test_policy_is_imported_with_everything_else(store: Store, tmp_path: Path) -> None:
    [found] = import_files(store, [write_policy(tmp_path, "pin_entry", "E")], "f", NOW).files
    assert (found.kind, found.policy_rows) == ("policy", 1)
