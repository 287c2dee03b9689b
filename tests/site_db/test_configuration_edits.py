"""Edits of factory XML and autoconf YAML, case by case: what the text becomes, and what is left alone."""

from pathlib import Path

import pytest

from site_db.configuration.edit_xml import xml_edits
from site_db.configuration.edit_yaml import yaml_edits
from site_db.configuration.editing import Change, Edit, apply_edits, write_with_backup
from site_db.configuration.model import BrokenFile
from site_db.rules import default_rules

RULES = default_rules()
BIN, NO_PID = "SINGULARITY_BIN", "SINGULARITY_DISABLE_PID_NAMESPACES"
FLAGS = 'const="True" glidein_publish="True" job_publish="False" parameter="True" publish="True" type="string"'


def _change(name: str, value: str, entry: str = "E") -> Change:
    return Change(entry, RULES.attributes[name], value)


def _attr(name: str, value: str) -> str:
    return f'<attr name="{name}" {FLAGS} value="{value}"/>'


def _xml(text: str, *changes: Change) -> str:
    data = text.encode()
    edits, refused = xml_edits(data, changes, "f.xml")
    assert not refused
    return apply_edits(data, edits).decode()


def _entry(inside: str) -> str:
    return f'<glidein>\n <entries>\n  <entry name="E">\n{inside}\n  </entry>\n </entries>\n</glidein>'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f'<attr name="{BIN}" value="PATH"/>', f'<attr name="{BIN}" value="/x"/>'),
        (f"<attr value='PATH' name='{BIN}' />", f"<attr value='/x' name='{BIN}' />"),
        (f'<attr\n  name="{BIN}"\n  value = "a>b"\n/>', f'<attr\n  name="{BIN}"\n  value = "/x"\n/>'),
        (f'<attr name="{BIN}" value="a"></attr>', f'<attr name="{BIN}" value="/x"></attr>'),
        (f'<attr name="{BIN}" const="True"/>', f'<attr name="{BIN}" const="True" value="/x"/>'),
        (f'<attr name="{BIN}" value="&#47;x"/>', f'<attr name="{BIN}" value="&#47;x"/>'),
    ],
)
def test_a_value_is_replaced_inside_its_quotes(old: str, new: str) -> None:
    text = _entry(f"<attrs>{old}<!-- {old} --></attrs>")
    assert _xml(text, _change(BIN, "/x")) == text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("quote", "written"), [('"', "&lt;&amp;&quot;'&#233;"), ("'", "&lt;&amp;\"&apos;&#233;")]
)
def test_a_value_is_escaped_for_its_quotes(quote: str, written: str) -> None:
    text = _entry(f"<attrs><attr name={quote}{BIN}{quote} value={quote}old{quote}/></attrs>")
    assert _xml(text, _change(BIN, "<&\"'é")) == text.replace("old", written)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '<attrs>\n\t<attr name="A" value="1"/>\n\t<!-- about Z -->\n\t<attr name="Z" value="1"/>\n</attrs>',
            f'<attrs>\n\t<attr name="A" value="1"/>\n\t{_attr(BIN, "/x")}'
            '\n\t<!-- about Z -->\n\t<attr name="Z" value="1"/>\n</attrs>',
        ),
        (
            '<attrs>\n  <attr name="Z" value="1"/>\n</attrs>',
            f'<attrs>\n  {_attr(BIN, "/x")}\n  <attr name="Z" value="1"/>\n</attrs>',
        ),
        (
            '<attrs> <!-- all -->\n  <!-- why\n Z -->\n  <!-- Z -->\n  <attr name="Z" value="1"/>\n</attrs>',
            f'<attrs> <!-- all -->\n  {_attr(BIN, "/x")}\n  <!-- why\n Z -->\n  <!-- Z -->\n'
            '  <attr name="Z" value="1"/>\n</attrs>',
        ),
        (
            '<attrs>\r\n  <!-- of all -->\r\n\r\n  <attr name="Z" value="1"/>\r\n</attrs>',
            f'<attrs>\r\n  <!-- of all -->\r\n\r\n  {_attr(BIN, "/x")}\r\n  <attr name="Z" value="1"/>\r\n</attrs>',
        ),
        (
            '<attrs>\r\n  <attr name="A" value="1"/> <!-- a -->\r\n</attrs>',
            f'<attrs>\r\n  <attr name="A" value="1"/> <!-- a -->\r\n  {_attr(BIN, "/x")}\r\n</attrs>',
        ),
        ('<attrs><attr name="Z" value="1"/></attrs>', f'<attrs>{_attr(BIN, "/x")}<attr name="Z" value="1"/></attrs>'),
        ("    <attrs>\n    </attrs>", f"    <attrs>\n       {_attr(BIN, '/x')}\n    </attrs>"),
        ("    <attrs/>", f"    <attrs>\n       {_attr(BIN, '/x')}\n    </attrs>"),
        ("    <attrs></attrs>", f"    <attrs>\n       {_attr(BIN, '/x')}\n    </attrs>"),
    ],
)
def test_a_new_attribute_gets_its_place_among_its_neighbours(before: str, after: str) -> None:
    assert _xml(_entry(before), _change(BIN, "/x")) == _entry(after)


def test_an_entry_without_attributes_gets_them() -> None:
    after = _xml(_entry("   <files/>"), _change(BIN, "/x"))
    assert after == _entry(f"     <attrs>\n        {_attr(BIN, '/x')}\n     </attrs>\n   <files/>")


def test_of_an_attribute_that_is_there_twice_the_one_that_counts_is_changed() -> None:
    twice = f'<attrs><attr name="{BIN}" value="a"/><attr name="{BIN}" value="b"/></attrs>'
    assert _xml(_entry(twice), _change(BIN, "/x")) == _entry(twice.replace('"b"', '"/x"'))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('<g><entries><entry name="E"/></entries></g>'.encode("utf-16"), "convert it to UTF-8"),
        (b'<g><entries><entry name="E"/></entries></g>', "give it an <attrs> element"),
        (b'<g><entries><entry name="F"><attrs/></entry></entries></g>', "no entry E"),
    ],
)
def test_what_cannot_be_edited_is_left_alone_and_named(data: bytes, words: str) -> None:
    edits, refused = xml_edits(data, [_change(BIN, "/x")], "f.xml")
    assert edits == []
    assert words in refused["E"]


def _yaml(text: str, *changes: Change) -> str:
    data = text.encode()
    edits, refused = yaml_edits(data, changes, "w.yml")
    assert not refused
    return apply_edits(data, edits).decode()


HEAD = "S:\n  g:\n    BEST_FIT:\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("value: PATH  # why", "value: /x  # why"),
        ("value: 'PATH'", "value: '/x'"),
        ('value: "PATH"', 'value: "/x"'),
        ("value:   # none", "value: /x   # none"),
        ("type: string", "value: /x\n            type: string"),
        ("value: /x", "value: /x"),
    ],
)
def test_a_yaml_value_is_replaced_in_its_own_quoting(before: str, after: str) -> None:
    text = HEAD + f"      E:\n        attrs:\n          {BIN}:\n            {{}}\n        work_dir: .\n"
    assert _yaml(text.replace("{}", before), _change(BIN, "/x")) == text.replace("{}", after)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("1", "1"),
        ("NO", '"NO"'),
        ("12:30", '"12:30"'),
        ("1_0", '"1_0"'),
        ("", '""'),
        ("a<b", '"a&lt;b"'),
        ("--userns", '"--userns"'),
    ],
)
def test_a_yaml_value_stays_the_same_text_for_yaml_1_1(value: str, written: str) -> None:
    after = _yaml(HEAD + f"      E:\n        attrs:\n          {BIN}:\n            value: old\n", _change(BIN, value))
    assert after.endswith(f"value: {written}\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("      E:\n", "      E:\n        attrs:\n          {}:\n            value: /x\n"),
        ("      E:", "      E:\n        attrs:\n          {}:\n            value: /x"),
        (
            "      E: # x\r\n      # y\r\n",
            "      E: # x\r\n        attrs:\r\n          {}:\r\n            value: /x\r\n      # y\r\n",
        ),
        (
            "      E:\n        enabled: True\n        submit_attrs:\n          a: b\n",
            "      E:\n        enabled: True\n        attrs:\n          {}:\n            value: /x\n"
            "        submit_attrs:\n          a: b\n",
        ),
        (
            "      E:\n        attrs:\n            A:\n                value: 1 # one\n\n"
            "            # of Z\n            Z:\n                value: 1\n",
            "      E:\n        attrs:\n            A:\n                value: 1 # one\n            {}:\n"
            "                value: /x\n\n            # of Z\n            Z:\n                value: 1\n",
        ),
        (
            "      E:\n        attrs: # all\n          # why\n          # Z\n          Z:\n            value: 1\n",
            "      E:\n        attrs: # all\n          {}:\n            value: /x\n          # why\n          # Z\n"
            "          Z:\n            value: 1\n",
        ),
        (
            "      E:\n        attrs:\n          Z:\n            value: 1\n",
            "      E:\n        attrs:\n          {}:\n            value: /x\n          Z:\n            value: 1\n",
        ),
    ],
)
def test_a_new_yaml_attribute_gets_its_lines_among_its_neighbours(before: str, after: str) -> None:
    assert _yaml(HEAD + before, _change(BIN, "/x")) == HEAD + after.format(BIN)


@pytest.mark.parametrize(
    "text",
    [
        f"      E: {{attrs: {{{NO_PID}: {{value: 1}}}}}}\n",
        "      E: {enabled: True}\n",
        f"      E:\n        attrs:\n          {BIN}: ~\n",
        f"      E:\n        attrs:\n          {BIN}: text\n",
        f"      E:\n        attrs:\n          {BIN}:\n            value: |\n              a\n",
        f"      E:\n        attrs:\n          {BIN}:\n            value: a\n              b\n",
        f"      E:\n        attrs: &a\n          {BIN}:\n            value: a\n      F:\n        attrs: *a\n",
        f"      E:\n        attrs:\n          {BIN}:\n            value: [a]\n",
    ],
)
def test_yaml_that_a_few_bytes_cannot_change_is_left_alone_and_named(text: str) -> None:
    edits, refused = yaml_edits((HEAD + text).encode(), [_change(BIN, "/x")], "w.yml")
    assert edits == []
    assert refused["E"].startswith("w.yml:")


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply_edits(b"abcdef", [Edit(0, 3, b"x"), Edit(2, 4, b"y")])


def test_a_file_is_written_at_once_with_its_old_self_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "f.xml"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link = tmp_path / "link.xml"
    link.symlink_to(path)
    backup = write_with_backup(link, b"old", b"new")
    assert (path.read_bytes(), backup.read_bytes(), backup.name) == (b"new", b"old", "f.xml.bak")
    assert link.is_symlink()
    assert path.stat().st_mode & 0o7777 == 0o640
    assert sorted(item.name for item in tmp_path.iterdir()) == ["f.xml", "f.xml.bak", "link.xml"]
    again = write_with_backup(link, b"new", b"newer")
    assert (path.read_bytes(), again.read_bytes(), again.name) == (b"newer", b"new", "f.xml.bak2")
    assert backup.read_bytes() == b"old"


def test_a_file_that_changed_meanwhile_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "f.xml"
    path.write_bytes(b"newer")
    with pytest.raises(BrokenFile, match="somebody else"):
        write_with_backup(path, b"old", b"new")
    assert [item.name for item in tmp_path.iterdir()] == ["f.xml"]
    assert path.read_bytes() == b"newer"
