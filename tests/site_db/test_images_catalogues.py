"""Catalogues of images: three formats, what is wrong in them, importing them again and again."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from site_db import tables
from site_db.images.bounded_files import Unreadable
from site_db.images.catalogues import BrokenCatalogue, Catalogue, detect_kind, parse_catalogue
from site_db.images.naming import WrongName, osg_reference, parse_image_name
from site_db.images.registering import import_catalogue
from site_db.images.views import list_images
from site_db.store import Store
from tests.shared_data import shared_data
from tests.site_db.submissions import NOW

OSG = "/cvmfs/singularity.opensciencegrid.org"
RECIPE = """\
version: 1
user: cvmfsunpacker
cvmfs_repo: 'unpacked.example.org'
output_format: 'https://registry.example.org/sync/$(image)'
input:
    - 'https://registry.example.org/vo/app:1.0'
    - 'https://registry.example.org:5005/vo/deep/er/app:*'
    - 'https://registry.example.org/vo/app@sha256:{digest}'
    - 'registry.example.org/vo/app:2'
    - 'https://registry.example.org/vo/app:$(touch x)'
    - [nested]
""".format(digest="0123456789abcdef" * 4)
SYNC = """\
- name: htc__rocky__9
  arch: [aarch64, x86_64]
  docker_image: hub.example.org/htc/rocky:9

- name: htc__almalinux__10
  apptainer_def: https://example.org/apptainer.def

- name: "../../etc"
  docker_image: debian:12
- docker_image: debian:13
- name: odd
  arch: [sparc]
  docker_image: debian:13
- name: nothing
"""


@pytest.mark.parametrize(
    ("line", "reference"),
    [
        ("debian:12", f"{OSG}/library/debian:12"),
        ("python", f"{OSG}/library/python:latest"),
        ("rocker/r-ver:latest", f"{OSG}/rocker/r-ver:latest"),
        ("hub.example.org/htc/rocky:9", f"{OSG}/htc/rocky:9"),
        (
            "registry.example.org/lscsoft/lalsuite/lalsuite-v6.53:stretch",
            f"{OSG}/lscsoft/lalsuite/lalsuite-v6.53:stretch",
        ),
        ("localhost:5000/a/b:c", f"{OSG}/a/b:c"),
    ],
)
def test_an_image_lies_where_cvmfs_singularity_sync_puts_it(line: str, reference: str):
    assert osg_reference(parse_image_name(line, with_digest=False)) == reference


HOSTILE = [
    "../../etc/passwd:latest",
    "a/../b:latest",
    "/etc/passwd",
    "vo/app:latest; rm -rf /",
    "vo/app:$(reboot)",
    "vo/app:`id`",
    "vo/app:a b",
    'vo/app:x" || true || "',
    "vo/app:tag\x1b[2J",
    "vo/app:\N{RIGHT-TO-LEFT OVERRIDE}gat",
    "vo/\N{CYRILLIC SMALL LETTER A}pp:1",
    "vo//app:1",
    "vo/app:" + "x" * 129,
    "v" * 600,
    "vo/app@sha256:123",
    "VO/APP:1",
    "-rf",
    "vo/app:1\x00",
    "'; DROP TABLE images; --",
]


@pytest.mark.parametrize("line", HOSTILE)
def test_a_hostile_line_is_named_and_stops_nothing(line: str):
    found = parse_catalogue(f"debian:12\n{line}\ndebian:13\n", "file", "docker-images")
    assert [image.name for image in found.images] == ["debian:12", "debian:13"]
    [wrong] = found.wrong
    assert wrong.line == 2
    assert wrong.problem
    assert wrong.remedy
    assert wrong.text.isprintable()


@given(st.text(max_size=80))
def test_a_name_that_is_taken_gives_a_path_that_stays_in_its_repository(text: str):
    try:
        reference = osg_reference(parse_image_name(text, with_digest=False))
    except WrongName:
        return
    assert reference.startswith(OSG + "/")
    assert ".." not in reference.split("/")
    assert not set(reference) & set(" \t\n\"'`$;|&<>()\\\x00")


def test_a_recipe_is_read_with_its_wrong_lines_named():
    found = parse_catalogue(RECIPE, "recipe.yaml")
    assert found.kind == "ducc-recipe"
    assert [(image.line, image.reference, image.is_pattern) for image in found.images] == [
        (6, "/cvmfs/unpacked.example.org/registry.example.org/vo/app:1.0", False),
        (7, "/cvmfs/unpacked.example.org/registry.example.org:5005/vo/deep/er/app:*", True),
        (8, "/cvmfs/unpacked.example.org/registry.example.org/vo/app:sha256:" + "0123456789abcdef" * 4, False),
    ]
    assert [line.line for line in found.wrong] == [9, 10, 11]


def test_a_sync_list_is_read_with_an_image_for_each_architecture():
    found = parse_catalogue(SYNC, "apptainer-sync.yaml")
    assert found.kind == "apptainer-sync"
    folder = "osdf:///ospool/uc-shared/public/OSG-Staff/images/v2"
    assert [(image.arch, image.reference) for image in found.images] == [
        ("aarch64", f"{folder}/aarch64/htc__rocky__9"),
        ("x86_64", f"{folder}/x86_64/htc__rocky__9"),
        ("x86_64", f"{folder}/x86_64/htc__almalinux__10"),
    ]
    assert [line.line for line in found.wrong] == [8, 10, 11, 14]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("# a list\ndebian:12\n", "docker-images"),
        ("", "docker-images"),
        (RECIPE, "ducc-recipe"),
        (SYNC, "apptainer-sync"),
    ],
)
def test_the_kind_is_told_by_what_is_in_it(text: str, kind: str):
    assert detect_kind(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "cvmfs_repo: [\n",
        "cvmfs_repo: '../x'\ninput: []\n",
        "cvmfs_repo: a.b\ninput: nothing\n",
        "cvmfs_repo: a.b\ninput:\n" + "[" * 5000,
        "input: !!python/object/apply:os.system ['true']\n",
    ],
)
def test_a_file_that_is_no_recipe_is_refused_as_a_whole(text: str):
    with pytest.raises(BrokenCatalogue) as caught:
        parse_catalogue(text, "recipe.yaml")
    assert "recipe.yaml" in str(caught.value)
    assert caught.value.remedy


@given(st.text(max_size=300), st.sampled_from([None, "docker-images", "ducc-recipe", "apptainer-sync"]))
def test_whatever_a_file_holds_it_is_read_or_refused(text: str, kind: str | None):
    try:
        found = parse_catalogue(text, "file", kind)
    except BrokenCatalogue:
        return
    assert isinstance(found, Catalogue)


def test_a_name_that_stands_twice_counts_once_and_is_named():
    found = parse_catalogue("debian:12\n\ndebian:12\n", "file")
    assert len(found.images) == 1
    assert [(line.line, line.problem) for line in found.wrong] == [(3, "it is listed already in line 1")]


def test_the_shared_catalogue_imports_whole(embedded: Store):
    path = shared_data("images", "docker_images.txt")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    found = import_catalogue(embedded, path, NOW)
    assert found.wrong == ()
    assert found.images + found.patterns == len(set(wanted)) > 300
    assert import_catalogue(embedded, path, NOW).new == 0


def test_what_goes_from_a_catalogue_is_marked_and_comes_back(store: Store, tmp_path: Path):
    path = tmp_path / "docker_images.txt"
    path.write_text("debian:12\ndebian:13\nvo/app:*\n")
    first = import_catalogue(store, path, NOW)
    assert (first.images, first.patterns, first.new, first.changed, first.gone) == (2, 1, 3, 0, ())
    path.write_text("# moved\ndebian:13\nubuntu:24.04\n")
    second = import_catalogue(store, path, NOW + timedelta(hours=1))
    assert (second.new, second.changed, second.gone) == (1, 0, ("debian:12", "vo/app:*"))
    listed = list_images(store, NOW)
    assert {name for item in listed.images for name in item.names} == {"debian:13", "ubuntu:24.04"}
    assert f"{OSG}/library/debian:12" in {item.image for item in listed.images}  # nothing is lost
    assert [name for name, _ in listed.gone] == ["debian:12", "vo/app:*"]
    path.write_text("debian:12\ndebian:13\nubuntu:24.04\n")
    third = import_catalogue(store, path, NOW + timedelta(hours=2))
    assert (third.new, third.changed, third.gone) == (0, 1, ())
    with store.reading() as connection:
        assert len(connection.execute(select(tables.image_catalogues)).all()) == 1


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'embedded.db'}")
    yield opened
    opened.close()


def test_bytes_that_are_no_text_cost_their_line_only(embedded: Store, tmp_path: Path):
    path = tmp_path / "docker_images.txt"
    path.write_bytes(b"\xef\xbb\xbfdebian:12\nvo/\xff\xfe:1\ndebian:13\n")
    found = import_catalogue(embedded, path, NOW)
    assert found.images == 2
    assert [line.line for line in found.wrong] == [2]


def test_a_fifo_a_folder_and_nothing_are_refused(embedded: Store, tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "nothing", Path("/dev/zero")):
        with pytest.raises(Unreadable) as caught:
            import_catalogue(embedded, path, NOW)
        assert str(path) in str(caught.value)
