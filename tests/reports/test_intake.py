import importlib.util
import json
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import contract
from reports.intake import REMEDIES, Rejected, validate
from site_db.store import Submission
from tests.sample_reports import CASES, sample_report

GOOD = orjson.dumps(sample_report(report_id="00000000-0000-4000-8000-000000000001"))


def refusal(raw: bytes, limit_bytes: int = 1_000_000) -> Rejected:
    with pytest.raises(Rejected) as caught:
        validate(raw, limit_bytes)
    return caught.value


def outcome(raw: bytes) -> Submission | Rejected:
    try:
        return validate(raw)
    except Rejected as rejected:
        return rejected


def check_outcome(raw: bytes) -> None:
    """Whatever the bytes are: a report that fits, or a refusal with harmless reasons."""
    result = outcome(raw)
    if isinstance(result, Submission):
        assert contract.fits(result.report)
    else:
        assert result.problems
        assert str(result).isprintable()


def with_member(text: bytes) -> bytes:
    return GOOD[:-1] + b"," + text + b"}"


@pytest.mark.parametrize("case", CASES)
def test_every_sample_report_is_taken(case: str):
    report = sample_report(case)
    raw = json.dumps(report, indent=1).encode()
    moment = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert validate(raw, now=lambda: moment) == Submission(report, raw, moment)


@pytest.mark.parametrize(
    ("raw", "kind", "pointer", "words"),
    [
        (b"", "not_json", "", "empty"),
        (GOOD[:-200], "not_json", "", "is not JSON"),
        (b"\xff\xfe", "not_json", "", "UTF-8"),
        (b"\xef\xbb\xbf{}", "not_json", "", "byte order mark"),
        (GOOD.replace(b'"duration_s":1.5', b'"duration_s":NaN'), "not_json", "", "is not JSON"),
        (GOOD.replace(b'"duration_s":1.5', b'"duration_s":1e999'), "not_json", "", "infinity"),
        (GOOD.replace(b"wn001", b"\\ud800"), "not_json", "", "surrogate"),
        (b"[" * 100_000, "not_json", "", "depth"),
        (b"[" * 1000 + b"]" * 1000, "schema", "", "a list of 1 items"),
        (b"[]", "schema", "", "a report is a JSON object"),
        (b"null", "schema", "", "a report is a JSON object"),
        (b"{}", "version", "/schema_version", "does not say its version"),
        (b'{"schema_version":"2.0"}', "version", "/schema_version", "update this collector"),
        (b'{"schema_version":"1.1"}', "version", "/schema_version", "update this collector"),
        (b'{"schema_version":"0.9"}', "version", "/schema_version", "update the probe"),
        (b'{"schema_version":1.0}', "version", "/schema_version", "this collector reads 1.0"),
        (b'{"schema_version":"1.\\u0661\\u001b"}', "version", "/schema_version", "\\x1b"),
        (b'{"schema_version":"' + b"9" * 5000 + b'.0"}', "version", "/schema_version", "update"),
        (with_member(b'"x\\u001b[2J":1'), "schema", "", 'does not know: "x\\x1b[2J"'),
        (with_member(b'"complete":true'), "schema", "", '"complete" twice'),
        (with_member(b'"compl\\u0065te":true'), "schema", "", '"complete" twice'),
        (GOOD[:-1] + b',"complete":' + b"[" * 1020 + b"]" * 1020 + b',"complete":true}', "schema", "", "twice"),
        (GOOD.replace(b"wn001", b"wn\\u0000"), "schema", "/host/hostname", "NUL"),
        (GOOD.replace(b"wn001", b"w" * 300), "schema", "/host/hostname", "longer than 256"),
        (GOOD.replace(b'"cores":64', b'"cores":18446744073709551616'), "schema", "/host/cores", "maximum"),
        (GOOD.replace(b'"cores":64', b'"cores":"64"'), "schema", "/host/cores", "must be integer or null"),
        (GOOD.replace(b"2026-11-20T12", b"2026-13-20T12"), "schema", "/created_at", "no moment in time"),
        (GOOD.replace(b".250000Z", b".250000Z\\n"), "schema", "/created_at", "does not match"),
        (GOOD.replace(b'"complete":true,', b""), "schema", "", 'lacks "complete"'),
        (GOOD.replace(b'"trigger":"startup"', b'"trigger":"cron"'), "schema", "/probe/trigger", "must be one of"),
    ],
)
def test_what_is_no_report_is_refused_with_its_place(raw: bytes, kind: str, pointer: str, words: str):
    rejected = refusal(raw)
    assert rejected.kind == kind
    assert pointer in [problem.pointer for problem in rejected.problems]
    assert words in str(rejected)
    assert str(rejected).isprintable()
    assert rejected.remedy == REMEDIES[kind]


def test_a_status_that_is_not_ok_needs_its_reason():
    report = sample_report()
    report["gpus"]["reason"] = None
    [problem] = refusal(orjson.dumps(report)).problems
    assert problem == ("/gpus/reason", "is null, but every status other than ok carries a reason code")


def test_a_text_may_speak_of_nul_and_quotes_in_escapes():
    raw = GOOD.replace(b"wn001", b"\\\\u0000 \\u0022 \\\"")
    assert validate(raw).report["host"]["hostname"].startswith('\\u0000 " "')


def test_oversized_is_said_before_anything_is_parsed():
    [problem] = refusal(b"[" * 1001, limit_bytes=1000).problems
    assert problem == ("", "is 1001 bytes long, at most 1000 are taken")


@pytest.mark.parametrize("count", [30, 200], ids=["explained", "too large to explain at length"])
def test_a_report_full_of_errors_is_explained_by_its_first_twenty(count: int):
    report = sample_report()
    report["checks"] = [{**report["checks"][0], "status": "\x1b" * 500} for _ in range(count)]
    problems = refusal(orjson.dumps(report)).problems
    assert len(problems) == contract.MAX_PROBLEMS
    assert problems[0].pointer == "/checks/0/status"
    assert max(len(problem.detail) for problem in problems) <= 300
    assert all(problem.detail.isprintable() for problem in problems)


@given(st.binary(max_size=300))
def test_bytes_are_a_submission_or_rejected(raw: bytes):
    assert refusal(raw).problems


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def paths_of(value: object, steps: tuple = ()) -> list[tuple]:
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [steps, *(path for step, member in members for path in paths_of(member, (*steps, step)))]


@given(data=st.data(), value=JSON_VALUES)
def test_a_report_with_one_value_replaced_is_a_submission_or_rejected(data: st.DataObject, value: object):
    report = sample_report()
    *parents, last = data.draw(st.sampled_from(paths_of(report)[1:]))
    place = report
    for step in parents:
        place = place[step]
    place[last] = value
    raw = json.dumps(report).encode("utf-8")
    check_outcome(raw)


@given(position=st.integers(min_value=0, max_value=len(GOOD) - 1), noise=st.binary(max_size=4))
def test_a_report_with_broken_bytes_is_a_submission_or_rejected(position: int, noise: bytes):
    check_outcome(GOOD[:position] + noise + GOOD[position + 1 :])


def test_the_schema_stands_where_it_is_installed():
    assert importlib.util.find_spec("reports") is not None
    assert contract.schema()["properties"]["schema_version"] == {"const": contract.VERSION}
