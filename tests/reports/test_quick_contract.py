"""The quick yes is never given to what the full look refuses, and is given to what probes send."""

import copy

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports import contract, quick_contract
from reports.intake import Rejected, validate
from reports.quick_contract import Unsupported, plain
from tests.sample_reports import CASES, sample_report

GOOD = orjson.dumps(sample_report(report_id="00000000-0000-4000-8000-000000000001"))


def fits(raw: bytes) -> bool:
    try:
        validate(raw)
    except Rejected:
        return False
    return True


@pytest.mark.parametrize("case", CASES)
def test_every_sample_report_is_plain(case: str):
    report = sample_report(case)
    found = plain(orjson.dumps(report))
    assert found
    assert found == (report["report_id"], report["created_at"], report["glidein"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"complete":true', b'"complete":true,"complete":true'),
        (b'"complete":true', b'"complete":true,"extra":1'),
        (b'"complete":true', b'"complete":"true"'),
        (b'"complete":true', b'"complete":true}x'),
        (b'"schema_version":"1.0"', b'"schema_version":"1.1"'),
        (b'"duration_s":1.5', b'"duration_s":-1'),
        (b'"duration_s":1.5', b'"duration_s":1e400'),
        (b'"duration_s":1.5', b'"duration_s":NaN'),
        (b'"duration_s":1.5', b'"duration_s":true'),
        (b"00000000-0000-4000-8000-000000000001", b"00000000-0000-4000-8000-000000000001\\n"),
        (b"wn001", b"\\u0000"),
        (b"wn001", b"\\ud800"),
        (b"wn001", b"\xff"),
        (b"wn001", b"\x01"),
        (b"wn001", b"w" * 300),
        (b'"status":"ok"', b'"status":"fail"'),
    ],
)
def test_what_is_refused_is_not_plain(old: bytes, new: bytes):
    raw = GOOD.replace(old, new, 1)
    assert raw != GOOD
    assert plain(raw) is None
    assert not fits(raw)


def places(value: object, steps: tuple = ()) -> list[tuple]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [steps, *(path for step, member in members for path in places(member, (*steps, step)))]


PLACES = places(sample_report())[1:]
# Around the bounds of the schema as well as anything else.
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 5), st.sampled_from([2**63 - 1, 2**63, 1e15, 1e16, 4096, 4097, 1.0]),
    st.text(max_size=70), st.sampled_from(["ok", "fail", "unlimited", "a" * 1024, "a" * 1025, "é" * 256, "x\n", "reason_x\n"]),
    st.lists(st.text(max_size=3), max_size=40), st.dictionaries(st.text(max_size=3), st.none(), max_size=3),
)  # fmt: skip


@settings(deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_a_report_with_one_value_replaced_is_plain_only_if_it_fits(place: tuple, value: object):
    report = copy.deepcopy(sample_report())
    *parents, last = place
    inner = report
    for step in parents:
        inner = inner[step]
    inner[last] = value
    raw = orjson.dumps(report, option=orjson.OPT_PASSTHROUGH_DATACLASS)
    assert plain(raw) is None or fits(raw)


@settings(deadline=None)
@given(position=st.integers(0, len(GOOD) - 1), noise=st.binary(max_size=4))
def test_a_report_with_broken_bytes_is_plain_only_if_it_fits(position: int, noise: bytes):
    raw = GOOD[:position] + noise + GOOD[position + 1 :]
    assert plain(raw) is None or fits(raw)


@settings(deadline=None)
@given(st.sampled_from([place for place in PLACES if isinstance(place[-1], str)]))
def test_a_report_without_one_member_is_plain_only_if_it_fits(place: tuple):
    report = copy.deepcopy(sample_report())
    *parents, last = place
    inner = report
    for step in parents:
        inner = inner[step]
    del inner[last]
    raw = orjson.dumps(report)
    assert (plain(raw) is not None) == fits(raw)


def test_a_rule_that_the_quick_types_cannot_say_is_not_passed_over():
    schema = copy.deepcopy(contract.schema())
    schema["properties"]["complete"] = {"type": "boolean", "not": {"const": False}}
    with pytest.raises(Unsupported, match="not"):
        quick_contract._Types(schema)
