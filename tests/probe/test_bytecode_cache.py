"""The single file's modules as bytecode: taken from a folder that is ours alone, and from no other."""

import marshal
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from probe import bytecode_cache


@pytest.mark.parametrize(
    ("mode", "owner", "taken"), [(0o700, 0, True), (0o777, 0, False), (0o750, 0, False), (0o700, 1, False)]
)
def test_modules_are_taken_from_a_folder_of_our_own_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, taken: bool
):
    loader = SimpleNamespace(archive=__file__)
    monkeypatch.setattr(bytecode_cache, "_single_file", lambda: loader)
    monkeypatch.setattr(sys, "meta_path", [])
    body = marshal.dumps((bytecode_cache._owner(loader), {}))
    (tmp_path / bytecode_cache.FILE).write_bytes(b"%08x" % zlib.crc32(body) + body)
    tmp_path.chmod(mode)
    if owner:
        monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + owner)
    bytecode_cache.install(str(tmp_path))
    assert bool(sys.meta_path) is taken


@pytest.mark.parametrize(("state", "taken"), [("", True), ("/on/what/hangs", False)])
def test_a_folder_that_somebody_named_is_not_read_in_our_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, taken: bool
):
    loader = SimpleNamespace(archive=__file__)
    monkeypatch.setattr(sys.modules["probe"], "__loader__", loader)
    monkeypatch.setattr(sys, "meta_path", [])
    monkeypatch.setenv("PROBE_STATE", state)
    body = marshal.dumps((bytecode_cache._owner(loader), {}))
    (tmp_path / bytecode_cache.FILE).write_bytes(b"%08x" % zlib.crc32(body) + body)
    tmp_path.chmod(0o700)
    bytecode_cache.install(str(tmp_path))
    assert bool(sys.meta_path) is taken
