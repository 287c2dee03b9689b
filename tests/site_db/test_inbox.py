"""The inbox: what is acknowledged is on disk, comes into the database once, and whatever dies, nothing of it is lost."""

import errno
import os
import signal
import struct
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import orjson
import pytest
from sqlalchemy import func, select

from site_db import segments, tables
from site_db.errors import Busy, DatabaseUnavailable
from site_db.inbox import Inbox, Limits, Looked
from site_db.known_reports import known_reports
from site_db.segments import Frame, Segment
from site_db.store import Store, Submission
from site_db.store_process import StoreProcess
from tests.probe.in_a_child import wait_for
from tests.site_db.submissions import NOW, sample


class GatedRecorder:
    """Stands for the process that stores: waits at a gate, fails as told, remembers what it got."""

    place = "gated"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.failure: Exception | None = None
        self.ids: list[bytes] = []
        self._changed = threading.Condition()

    def record(self, group: Sequence[Frame]) -> None:
        self.entered.set()
        assert self.gate.wait(timeout=30)
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        with self._changed:
            self.ids += [report_id for frame in group for report_id in segments.read(frame).ids]
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.ids) >= count, timeout=30)

    def known(self, ids: Sequence[bytes]) -> set[bytes]:
        return set(self.ids).intersection(ids)


def ids_of(submissions: Sequence[Submission]) -> list[bytes]:
    return [uuid.UUID(item.report["report_id"]).bytes for item in submissions]


def many(count: int) -> list[Submission]:
    return [sample(node=number) for number in range(1, count + 1)]


@pytest.fixture
def gated() -> GatedRecorder:
    return GatedRecorder()


@pytest.fixture
def open_inbox(tmp_path: Path, gated: GatedRecorder) -> Iterator[Callable[..., Inbox]]:
    opened: list[Inbox] = []

    def made(**limits: int) -> Inbox:
        opened.append(Inbox(tmp_path / "inbox", gated, gated.known, Limits(**limits)))
        return opened[-1]

    yield made
    gated.gate.set()
    for each in opened:
        each.close()


def test_many_are_acknowledged_before_the_database_has_them(open_inbox: Callable[..., Inbox], gated: GatedRecorder):
    inbox, submissions = open_inbox(), many(20)
    assert inbox.submit(submissions).result(timeout=30) == ["new"] * 20
    assert inbox.pending == 20
    assert inbox.submit(submissions[:3]).result(timeout=30) == ["known"] * 3
    gated.gate.set()
    inbox.close()
    assert gated.ids == ids_of(submissions)
    assert list(inbox.folder.glob("*.reports")) == []


def test_who_is_alone_is_answered_when_the_database_has_it(open_inbox: Callable[..., Inbox], gated: GatedRecorder):
    future = open_inbox().submit([sample()])
    assert gated.entered.wait(timeout=30)
    assert not future.done()
    gated.gate.set()
    assert future.result(timeout=30) == ["new"]
    assert len(gated.ids) == 1


def frame_of(inbox: Inbox, submissions: Sequence[Submission]) -> tuple[Frame, list[bytes]]:
    """What another process made durable in the inbox's folder."""
    segment = Segment(inbox.folder / f"{uuid.uuid4().hex}.reports")
    frame = segment.append(1, ids_of(submissions), [item.raw for item in submissions])
    segment.close()
    return frame, ids_of(submissions)


def test_what_goes_into_the_database_while_another_process_asks_it_is_known(
    open_inbox: Callable[..., Inbox], gated: GatedRecorder
):
    inbox, submissions, answers = open_inbox(), many(5), list[str]()
    assert inbox.submit(submissions[:3]).result(timeout=30) == ["new"] * 3
    with inbox.looking() as turn:  # the other process asks now, and finds nothing
        gated.gate.set()
        gated.wait_for(3)
        wait_for(lambda: inbox.pending == 0)
        assert inbox.take([frame_of(inbox, submissions[2:])], answers.extend, looked=Looked(turn, set()))
    assert answers == ["known", "new", "new"]
    with inbox.looking() as turn:
        known = {ids_of(submissions)[0]}
        assert inbox.take([frame_of(inbox, submissions[:1])], answers.extend, looked=Looked(turn, known))
    assert answers[3:] == ["known"]


def test_what_an_earlier_process_left_is_on_disk_before_it_is_known(
    open_inbox: Callable[..., Inbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Who wrote it may have died before it was."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    segment = Segment(folder / "left.reports")
    [one] = submissions = many(1)
    segment.append(1, ids_of(submissions), [one.raw])
    segment.close()
    flushed: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    inbox = open_inbox()
    assert "left.reports" in flushed
    assert inbox.submit(submissions).result(30) == ["known"]


def test_a_segment_whose_folder_cannot_be_flushed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_descriptor: int) -> None:
        raise OSError(errno.EIO, "no disk")

    monkeypatch.setattr(os, "fsync", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="no disk"):
        Segment(tmp_path / "x.reports")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(tmp_path.iterdir()) == []


def test_who_may_not_wait_is_told_that_somebody_else_is_answering(
    open_inbox: Callable[..., Inbox], gated: GatedRecorder
):
    asked, answer = threading.Event(), threading.Event()

    def slow(_ids: Sequence[bytes]) -> set[bytes]:
        asked.set()
        assert answer.wait(30)
        return set()

    gated.known = slow  # type: ignore[method-assign]  # a database that takes its time
    inbox = open_inbox()
    other = inbox.submit(many(3))
    assert asked.wait(30)
    with inbox.looking() as turn:
        answers: list[str] = []
        take = partial(inbox.take, [frame_of(inbox, many(5)[3:])], answers.extend, looked=Looked(turn, set()))
        assert not take(waits=False)
        assert answers == []
        answer.set()
        assert take()
    assert answers == ["new", "new"]
    assert other.result(30) == ["new"] * 3


def test_a_database_that_is_away_is_tried_again(open_inbox: Callable[..., Inbox], gated: GatedRecorder):
    gated.failure = DatabaseUnavailable("away", "")
    gated.gate.set()
    inbox, submissions = open_inbox(), many(5)
    assert inbox.submit(submissions).result(timeout=30) == ["new"] * 5
    gated.wait_for(5)
    assert gated.ids == ids_of(submissions)


@pytest.mark.parametrize("failure", [OSError(errno.EMFILE, "too many open files"), RuntimeError("an error of ours")])
def test_whatever_goes_wrong_there_it_is_tried_again(
    open_inbox: Callable[..., Inbox], gated: GatedRecorder, failure: Exception
):
    inbox, submissions = open_inbox(), many(1)
    gated.failure = failure
    gated.gate.set()
    assert inbox.submit(submissions).result(timeout=30) == ["new"]
    gated.wait_for(1)
    assert gated.ids == ids_of(submissions)


def test_what_an_earlier_process_left_is_taken_up(open_inbox: Callable[..., Inbox], gated: GatedRecorder, tmp_path: Path):
    folder, submissions = tmp_path / "inbox", many(4)
    folder.mkdir()
    segment = Segment(folder / "left.reports")
    texts = [item.raw for item in submissions]
    segment.append(1, ids_of(submissions)[:2], texts[:2])
    segment.append(2, ids_of(submissions)[2:], texts[2:])
    segment.close()
    with (folder / "left.reports").open("ab") as torn:
        torn.write((folder / "left.reports").read_bytes()[:40])
    inbox = open_inbox()
    assert inbox.submit([submissions[3]]).result(timeout=30) == ["known"]
    gated.gate.set()
    inbox.close()
    assert gated.ids == ids_of(submissions)
    assert list(folder.glob("*.reports")) == []


def test_beyond_its_bound_senders_are_asked_to_come_again(open_inbox: Callable[..., Inbox]):
    inbox = open_inbox(reports=10, retry_after_s=7)
    assert inbox.submit(many(10)).result(timeout=30)
    with pytest.raises(Busy, match="10 reports wait") as caught:
        inbox.submit([sample(node=99)])
    assert caught.value.retry_after_s == 7


def test_a_disk_that_takes_nothing_acknowledges_nothing(
    open_inbox: Callable[..., Inbox], gated: GatedRecorder, monkeypatch: pytest.MonkeyPatch
):
    inbox, submissions = open_inbox(), many(5)

    def full(*_args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(DatabaseUnavailable, match="No space left"):
            inbox.submit(submissions).result(timeout=30)
    gated.gate.set()
    assert inbox.submit(submissions).result(timeout=30) == ["new"] * 5
    inbox.close()
    assert gated.ids == ids_of(submissions)


def test_two_collectors_cannot_share_an_inbox(open_inbox: Callable[..., Inbox]):
    open_inbox()
    with pytest.raises(DatabaseUnavailable, match="in use by another collector"):
        open_inbox()


def test_frames_of_another_process_are_answered_once(open_inbox: Callable[..., Inbox], gated: GatedRecorder):
    inbox, submissions = open_inbox(), many(3)
    segment = Segment(inbox.folder / "other.reports")
    inbox.use(str(segment.path))
    written = [
        (segment.append(1, ids_of(part), [item.raw for item in part]), ids_of(part))
        for part in (submissions[:2], submissions[1:])
    ]
    answers: list[str] = []
    inbox.take(written, answers.extend)
    assert answers == ["new", "new", "known", "new"]
    gated.gate.set()
    gated.wait_for(4)
    assert segment.path.exists()
    inbox.release(str(segment.path))
    inbox.close()
    assert not segment.path.exists()
    segment.close()


@pytest.mark.parametrize("damage", ["cut", "changed", "none"])
def test_a_segment_is_read_up_to_what_is_damaged(tmp_path: Path, damage: str):
    segment = Segment(tmp_path / "a.reports")
    first, second = (segment.append(7, [bytes([n]) * 16], [b'{"n": %d}' % n]) for n in (1, 2))
    segment.close()
    data = bytearray(segment.path.read_bytes())
    if damage == "cut":
        del data[-1:]
    if damage == "changed":
        data[-1] ^= 1
    segment.path.write_bytes(data)
    found = [frame for frame, _ in segments.frames(segment.path)]
    assert found == ([first, second] if damage == "none" else [first])
    assert segments.read(first) == (7, [b"\1" * 16], [b'{"n": 1}'])
    if damage != "none":
        with pytest.raises(segments.Damaged):
            segments.read(second)


def three_frames(path: Path) -> tuple[bytearray, list[Frame]]:
    segment = Segment(path)
    made = [segment.append(7, [bytes([n]) * 16], [b'{"n": %d}' % n]) for n in (1, 2, 3)]
    segment.close()
    return bytearray(path.read_bytes()), made


@pytest.mark.parametrize("number", [0, 1])
def test_what_lies_behind_a_damaged_frame_is_taken_up_and_a_copy_stays(
    open_inbox: Callable[..., Inbox], gated: GatedRecorder, tmp_path: Path, number: int
):
    folder = tmp_path / "inbox"
    folder.mkdir()
    data, made = three_frames(folder / "a.reports")
    data[made[number].offset + made[number].size - 1] ^= 1
    (folder / "a.reports").write_bytes(data)
    gated.gate.set()
    inbox = open_inbox()
    gated.wait_for(2)
    inbox.close()
    assert sorted(gated.ids) == [bytes([n]) * 16 for n in (1, 2, 3) if n != number + 1]
    assert {path.name for path in folder.iterdir()} == {"lock", "a.reports.damaged"}
    assert (folder / "a.reports.damaged").read_bytes() == data


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_torn_end_is_no_damage(tmp_path: Path, cut: int):
    """Nobody was told that it is kept; a last frame of its length may have been."""
    path = tmp_path / "a.reports"
    data, made = three_frames(path)
    path.write_bytes(data[: len(data) - cut])
    whole = [frame for frame, _ in segments.frames(path)]
    assert whole == (made[:2] if cut else made)
    assert segments.damaged_bytes(path, whole) == 0
    data[-1] ^= 1
    path.write_bytes(data)
    assert segments.damaged_bytes(path, made[:2]) == made[2].size


def test_a_head_that_claims_too_much_is_no_frame(tmp_path: Path):
    path = tmp_path / "a.reports"
    path.write_bytes(struct.pack("<4sIIQI", b"SDf1", 0xFFFFFFFF, 0xFFFFFFFF, 1, 0))
    assert list(segments.frames(path)) == []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'site.db'}")
    yield opened
    opened.close()


@pytest.fixture
def stores(tmp_path: Path, store: Store) -> Iterator[StoreProcess]:
    process = StoreProcess(f"sqlite:///{tmp_path / 'site.db'}", store.place)
    yield process
    process.close()


def stored(store: Store) -> int:
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(tables.reports)) or 0


def test_a_store_in_another_process_is_a_store(store: Store, stores: StoreProcess):
    submissions = many(3)
    assert stores.add([*submissions, submissions[0]]) == ["new", "new", "new", "known"]
    assert store.raw_report(ids_of(submissions)[0]) == submissions[0].raw


def test_a_killed_store_process_is_started_anew_and_nothing_is_stored_twice(
    store: Store, stores: StoreProcess, tmp_path: Path
):
    inbox = Inbox(tmp_path / "inbox", stores, partial(known_reports, store))
    for number in range(4):
        batch = many(12)
        assert inbox.submit(batch).result(timeout=60) == ["new"] * 12
        if stores.pid and number % 2:
            os.kill(stores.pid, signal.SIGKILL)
    inbox.close()
    # The last kill may have come before the inbox was closed: what is left is for the next.
    after = Inbox(tmp_path / "inbox", stores, partial(known_reports, store))
    after.close()
    assert stored(store) == 48


def test_a_report_that_cannot_be_stored_holds_up_no_other(store: Store, stores: StoreProcess, tmp_path: Path):
    good, bad = sample(node=1), sample(node=2)
    text = orjson.dumps({"report_id": bad.report["report_id"]})
    inbox = Inbox(tmp_path / "inbox", stores, partial(known_reports, store))
    assert inbox.submit([good, bad._replace(raw=text), sample(node=3)]).result(timeout=60) == ["new"] * 3
    inbox.close()
    assert stored(store) == 2
    assert (tmp_path / "inbox" / f"{bad.report['report_id']}.json").read_bytes() == text
    assert inbox.kept_aside == 1


def test_reports_keep_the_time_at_which_they_came(store: Store, stores: StoreProcess, tmp_path: Path):
    inbox = Inbox(tmp_path / "inbox", stores, partial(known_reports, store))
    inbox.submit([sample()]).result(timeout=60)
    inbox.close()
    with store.reading() as connection:
        assert connection.scalar(select(tables.reports.c.received_at)) == int(NOW.timestamp() * 1_000_000)
