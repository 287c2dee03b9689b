"""Markdown for tickets: what it tells, and that nothing of a report is markup in it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from reports.cli import cli
from reports.markdown import document, prose
from reports.output import Table
from reports.safe_text import code_block, code_span, printable
from tests.sample_reports import check, image, sample_report

PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
MARKUP = {"html_inline", "html_block", "link_open", "image", "em_open", "strong_open", "s_open", "hr"}
HOSTILE = (
    "`` ``` ~~~\n\n# h @admins #12 owner/repo#3 | a | b |\n|---|---|\n<script>alert(1)</script> <!-- "
    "[x](javascript:alert(1)) ![i](http://evil.example/p.png) http://evil.example www.evil.example \\` \\| *b* "
    "\x1b[31m \u202egnp.exe \u200b &lt; $(id)"
)


def tokens(text: str) -> Iterator[Token]:
    for token in PARSER.parse(text):
        yield token
        yield from token.children or ()


def plain_text(text: str) -> str:
    """What is shown outside of code: only there a ticket system looks for links, mentions and references."""
    return " ".join(token.content for token in tokens(text) if token.type == "text")


hostile_texts = st.one_of(
    st.text(), st.text(alphabet="`~|\\\n <>[]()!*_#@&-=:/.a1\x1b\u202e", max_size=60), st.just(HOSTILE)
)


@given(hostile_texts)
def test_a_code_span_is_one_span_wherever_it_stands(text: str):
    inner = [token.type for token in tokens(f"- a {code_span(text)}, {code_span(text)} b")]
    assert inner.count("code_inline") == 2
    assert not MARKUP & set(inner)


@given(hostile_texts)
def test_a_code_block_holds_all_lines_as_they_print(text: str):
    [fence] = PARSER.parse(code_block(text))
    assert fence.type == "fence"
    assert fence.content == "".join(printable(line) + "\n" for line in text.split("\n"))


@given(st.lists(st.tuples(hostile_texts, hostile_texts), min_size=1, max_size=3), hostile_texts)
def test_a_table_keeps_its_shape_and_shows_foreign_text_as_code(rows: list[tuple[str, str]], column: str):
    text = document([Table(["a", column], rows, title=column)])
    found = list(tokens(text))
    kinds = [token.type for token in found]
    assert kinds.count("tr_open") == len(rows) + 1
    assert kinds.count("td_open") == 2 * len(rows)
    assert not MARKUP & set(kinds)
    assert not set("@#<`:.") & set(plain_text(text).replace(":", "", 1 if column else 0))


@given(st.text(alphabet="`*_[]<>|~\\ab ", max_size=40))
def test_our_own_words_show_as_they_are(text: str):
    words = f"x{text}x"
    [paragraph] = [token for token in PARSER.parse(prose(words)) if token.type == "inline"]
    assert "".join(token.content for token in paragraph.children or ()) == words


Run = Callable[..., str]


def report(case: str, days_ago: int, node: int, **changes: object) -> dict[str, Any]:
    made = datetime.now(UTC) - timedelta(days=days_ago, minutes=5)
    words = {"host__machine_id": f"{node:032x}", "host__hostname": f"wn{node}.example.org", **changes}
    return sample_report(case, created_at=made.strftime("%Y-%m-%dT%H:%M:%SZ"), **words)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SITE_DB_DATABASE", f"sqlite:///{tmp_path / 'site.db'}")

    def invoke(*arguments: object, stdin: bytes = b"") -> str:
        result = CliRunner().invoke(cli, [str(item) for item in arguments], input=stdin, prog_name="site-db")
        assert result.exit_code == 0, result.output
        return result.stdout

    return invoke


def store(run: Run, reports: list[dict[str, Any]]) -> None:
    run("ingest", "-", stdin=b"\n".join(map(orjson.dumps, reports)))


@pytest.fixture
def failing(run: Run) -> Run:
    """A site of six nodes; four days ago three of them began to mask /proc, and one image is not there."""
    before = [report("healthy", day, node) for day in range(10, 3, -1) for node in range(1, 7)]
    after = [report("pid_masked", day, node) for day in (3, 2, 1, 0) for node in (1, 2, 3)]
    others = [report("healthy", 0, node) for node in (4, 5)]
    others.append(report("healthy", 0, 6, images=[image("/cvmfs/i", "fail", "image_missing")]))
    store(run, [*before, *after, *others])
    return run


@pytest.mark.parametrize(
    ("arguments", "counted"),
    [
        (["site", "Example-T2"], "3 of 6 nodes"),
        (["entry", "Example_T2_CE1"], "3 of 6 nodes"),
        (["node", "wn2.example.org"], "1 of 1 node"),
    ],
    ids=["site", "entry", "node"],
)
def test_a_ticket_says_what_fails_since_when_where_why_and_what_to_do(failing: Run, arguments: list[str], counted: str):
    text = failing(*arguments, "--format", "markdown")
    began = (datetime.now(UTC) - timedelta(days=3, minutes=5)).strftime("%Y-%m-%d")
    after = text.partition("## 1. /proc is masked, so no fresh /proc can be mounted")[2]
    section = after.partition("\n## ")[0]
    for told in (
        f"Where: {counted}, reason code `proc_masked`",
        "`wn2.example.org`",
        f"Since: {began} ",
        "Singularity as the factory starts it",
        "For jobs: Containers with a pid namespace of their own (--pid) cannot start",
        "What the site can do: In Kubernetes: procMount: Unmasked",
        "What the factory can do: Set SINGULARITY_DISABLE_PID_NAMESPACES=1",
        "message: can't mount proc filesystem to /proc",
        "command: /usr/bin/apptainer exec --contain --ipc --pid IMAGE",
    ):
        assert told in section, told
    assert "setuid_not_installed" in text.partition("## Not available either")[2]


def test_an_image_that_does_not_start_is_in_the_ticket_with_its_reason(failing: Run):
    told = failing("site", "Example-T2", "--format", "markdown").partition("## Images that did not start")[2]
    assert "`/cvmfs/i`: not on 1 of 1 node that tried it" in told
    assert "## Images" not in failing("node", "wn1.example.org", "--format", "markdown")


def test_where_nothing_fails_the_ticket_says_so(run: Run):
    store(run, [report("privileged", 0, 1)])
    text = run("--format", "markdown", "site", "Example-T2")
    assert "Nothing that jobs usually need was seen to fail." in text
    assert "## 1." not in text


def test_a_cause_without_a_change_says_that_its_beginning_is_not_known(run: Run):
    store(run, [report("pid_masked", 0, 1)])
    assert "Since: not known, no change was seen" in run("site", "Example-T2", "--format", "markdown")


def test_two_entries_of_one_name_have_tickets_of_their_own(run: Run):
    store(run, [report("pid_masked", 0, 1), report("no_runtime", 0, 2, glidein__factory="other.example.org")])
    text = run("entry", "Example_T2_CE1@other.example.org", "--format", "markdown")
    assert "`runtime_not_found`" in text
    assert "`proc_masked`" not in text


def test_nothing_that_a_report_says_is_markup_in_a_ticket(run: Run):
    hostile = report("pid_masked", 0, 1, host__hostname=HOSTILE, images=[image(HOSTILE, "fail", "image_missing")])
    hostile["glidein"].update(entry=HOSTILE, site=HOSTILE, resource=HOSTILE, factory=HOSTILE)
    hostile["singularity"].update(message=HOSTILE * 4, command=HOSTILE, reason="never_heard_of")
    hostile["singularity"]["modes"]["unprivileged"] = {
        **check("singularity.modes.unprivileged", "fail", "proc_masked", HOSTILE),
        "evidence": {"stderr": HOSTILE * 3, "words": HOSTILE},
    }
    repository = {**hostile["cvmfs"]["repositories"][0], "name": HOSTILE, "status": "fail", "reason": "cvmfs_hung"}
    hostile["cvmfs"]["repositories"].append(repository)
    store(run, [hostile])
    [entry] = orjson.loads(run("entries", "list", "--format", "json"))["data"]
    for words in (["site", entry["site"]], ["entry", entry["name"]], ["node", "0" * 31 + "1"], ["sites"], ["changes"]):
        text = run("--format", "markdown", *words)
        assert all(line.isprintable() for line in text.split("\n"))
        found = list(tokens(text))
        assert not MARKUP & {token.type for token in found}
        outside = plain_text(text)
        assert not [word for word in ("evil", "@", "#1", "alert", "<", "admins") if word in outside]
        if words[0] == "site":
            shown = [token.content for token in found if token.type in ("code_inline", "fence")]
            assert sum("evil.example" in content for content in shown) >= 4
