"""Key files, their rotation under a running authorizer, and the commands for them."""

import asyncio
import contextlib
import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result
from starlette.datastructures import Headers

from reports import serve_configuration
from reports.authorization import Caller, Refused
from reports.cli import cli
from reports.tokens.authorizer import TokenAuthorizer
from reports.tokens.issuing import Wanted, issue
from reports.tokens.keys import (
    READERS,
    KeyProblem,
    add_key,
    list_key_files,
    read_key_folder,
    retire_key,
    secret_key,
)
from reports.tokens.sources import Pace
from tests.reports.issuers import AUDIENCE, public_pem, rsa_key

FACTORY, ENTRY = "Example-Factory", "Example_T2_CE1"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(cli, [str(item) for item in arguments], prog_name="site-db")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


def answered(result: Result) -> object:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["data"]


def test_a_key_file_holds_exactly_its_bytes_and_is_for_its_owner_alone(tmp_path: Path):
    for key_id, secret in (("new", None), ("given", b" \n" + b"s" * 32 + b"\r\n")):
        made = add_key(tmp_path / "keys", "A/B é", key_id, secret)
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
        assert secret is None or made.path.read_bytes() == secret
    assert (tmp_path / "keys" / "A%2FB%20%C3%A9").is_dir()
    assert [(file.factory, file.key_id) for file in list_key_files(tmp_path / "keys")] == [
        ("A/B é", "new"),
        ("A/B é", "given"),
    ]
    keys, problems = read_key_folder(tmp_path / "keys")
    assert (len(keys.keys), problems) == (2, [])
    assert "sssss" not in repr(keys.keys)
    assert sorted(path.name for path in made.path.parent.iterdir()) == ["given.key", "new.key"]


def test_no_two_new_keys_are_equal(tmp_path: Path):
    made = [add_key(tmp_path, FACTORY, f"k{number}").path.read_bytes() for number in range(5)]
    assert len(set(made)) == 5
    assert {len(secret) for secret in made} == {32}


@pytest.mark.parametrize(
    "secret", [b"", b"x" * 31, b"x" * 5000, public_pem(rsa_key())], ids=["empty", "short", "long", "pem"]
)
def test_what_is_no_shared_secret_is_no_key(tmp_path: Path, secret: bytes):
    with pytest.raises(KeyProblem, match="cannot be a key"):
        add_key(tmp_path, FACTORY, "k", secret)
    assert list_key_files(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 300])
def test_a_factory_without_a_name_for_a_folder_is_refused(tmp_path: Path, name: str):
    with pytest.raises(KeyProblem):
        add_key(tmp_path, name, "k")


@pytest.mark.parametrize("key_id", ["", "../k", "a/b", ".hidden", "x" * 65, "k\n", "é"])
def test_a_key_id_is_a_plain_word(tmp_path: Path, key_id: str):
    with pytest.raises(KeyProblem):
        add_key(tmp_path, FACTORY, key_id)


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path):
    made = add_key(tmp_path, FACTORY, "k")
    made.path.chmod(0o640)
    keys, [problem] = read_key_folder(tmp_path)
    assert keys.keys == ()
    assert "can be read by others (mode 0640)" in str(problem)
    with pytest.raises(KeyProblem):
        serve_configuration.make_authorizer({"tokens": {"audience": [AUDIENCE], "keys": str(tmp_path)}})


def test_an_existing_key_is_never_overwritten(tmp_path: Path):
    before = add_key(tmp_path, FACTORY, "k").path.read_bytes()
    with pytest.raises(KeyProblem, match="exists already"):
        add_key(tmp_path, FACTORY, "k")
    assert add_key(tmp_path, FACTORY, "k2").path.with_name("k.key").read_bytes() == before


# --- rotation ---


def refused(authorizer: TokenAuthorizer, token: str) -> str | None:
    """The reason, or None if the token is taken."""

    async def ask() -> None:
        caller = Caller(Headers({"authorization": f"Bearer {token}"}), None)
        with contextlib.suppress(Refused):
            await authorizer.sender(caller)
        # A remembered token has the keys read again, and is judged by those before until they are there.
        [factories] = authorizer.verifier.sources
        while factories._task and not factories._task.done():
            await asyncio.sleep(0.001)
        await authorizer.sender(caller)

    try:
        asyncio.run(ask())
    except Refused as error:
        return error.reason
    return None


def test_keys_are_changed_without_a_gap_under_a_running_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serve_configuration, "OF_FOLDER", Pace(0, 0, float("inf"), 5))
    add_key(tmp_path, FACTORY, "old")
    authorizer = serve_configuration.make_authorizer({"tokens": {"audience": [AUDIENCE], "keys": str(tmp_path)}})
    wanted = Wanted(FACTORY, ENTRY, AUDIENCE)
    old = issue(tmp_path, wanted, datetime.now(UTC))
    assert refused(authorizer, old) is None
    add_key(tmp_path, FACTORY, "young")
    young = issue(tmp_path, wanted, datetime.now(UTC))
    assert jwt.get_unverified_header(young)["kid"] == "young"
    assert (refused(authorizer, old), refused(authorizer, young)) == (None, None)
    add_key(tmp_path, "Newcomer", "k")
    newcomer = issue(tmp_path, Wanted("Newcomer", ENTRY, AUDIENCE), datetime.now(UTC))
    assert refused(authorizer, newcomer) is None
    retire_key(tmp_path, FACTORY, "old")
    assert (refused(authorizer, young), refused(authorizer, old)) == (None, "unknown_key")


def test_a_bad_file_beside_good_ones_locks_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(serve_configuration, "OF_FOLDER", Pace(0, 0, float("inf"), 5))
    add_key(tmp_path, FACTORY, "good")
    authorizer = serve_configuration.make_authorizer({"tokens": {"audience": [AUDIENCE], "keys": str(tmp_path)}})
    add_key(tmp_path, FACTORY, "bad").path.write_bytes(b"short")
    token = issue(tmp_path, Wanted(FACTORY, ENTRY, AUDIENCE), datetime.now(UTC), "good")
    assert refused(authorizer, token) is None
    assert refused(authorizer, token[:-3]) == "bad_signature"
    assert "bad.key cannot be used: it has 5 bytes" in caplog.text


def test_at_most_eight_keys_are_tried_for_a_token_that_names_none():
    keys = [secret_key(FACTORY, f"k{number}", bytes([number]) * 32) for number in range(20)]
    assert len(serve_configuration.KeySet(keys).find(FACTORY, None, "HS256")) == 8


# --- the commands ---


def test_the_commands_make_list_and_retire_keys(run: Run, tmp_path: Path):
    made = answered(run("--format", "json", "token", "keys", "add", FACTORY, "--kid", "k1"))
    assert made == {"factory": FACTORY, "kid": "k1", "path": str(tmp_path / "data/site-db/keys" / FACTORY / "k1.key")}
    assert run("token", "keys", "add", "--readers", "--kid", "r1").exit_code == 0
    listed = run("token", "keys")
    assert FACTORY in listed.stdout
    assert "(readers)" in listed.stdout
    rows = answered(run("--format", "json", "token", "keys", "list"))
    assert isinstance(rows, list)
    assert [(row["factory"], row["kid"], row["problem"]) for row in rows] == [
        (FACTORY, "k1", None),
        ("(readers)", "r1", None),
    ]
    assert run("token", "keys", "retire", FACTORY, "k1").exit_code == 0
    assert run("token", "keys", "retire", FACTORY, "k1").exit_code == 1
    assert run("token", "keys", "add").exit_code == 2


def test_a_factorys_own_secret_is_taken_byte_by_byte(run: Run, tmp_path: Path):
    secret = tmp_path / "jwt_secret.key"
    secret.write_bytes(b"0123456789abcdef0123456789abcdef\n")
    assert (
        run("token", "keys", "add", FACTORY, "--from", secret, "--kid", "gwms", "--keys", tmp_path / "k").exit_code == 0
    )
    assert (tmp_path / "k" / FACTORY / "gwms.key").read_bytes() == secret.read_bytes()


def test_the_command_issues_what_glideinwms_would(run: Run, tmp_path: Path):
    run("token", "keys", "add", FACTORY, "--kid", "k1")
    issuing = ("token", "issue", ENTRY, "--factory", FACTORY, "--audience", AUDIENCE)
    result = run(*issuing, "--site", "S", "--days", "2")
    token = result.stdout.strip()
    secret = (tmp_path / "data/site-db/keys" / FACTORY / "k1.key").read_bytes()
    claims = jwt.decode(token, secret, ["HS256"], audience=AUDIENCE)
    assert {name: claims[name] for name in ("iss", "sub", "site")} == {"iss": FACTORY, "sub": ENTRY, "site": "S"}
    assert (claims["exp"] - claims["iat"], claims["iat"] - claims["nbf"]) == (2 * 86400, 300)
    assert result.stderr == ""
    assert "without --site" in run(*issuing).stderr


def test_several_tokens_go_to_files_of_their_own(run: Run, tmp_path: Path):
    run("token", "keys", "add", FACTORY)
    common = ("--factory", FACTORY, "--audience", AUDIENCE, "--site", "S")
    assert run("token", "issue", "A", "B/../C", *common).exit_code == 2
    for _ in range(2):  # a second time they are renewed
        rows = answered(run("--format", "json", "token", "issue", "A", "B/../C", *common, "--folder", tmp_path / "out"))
    assert isinstance(rows, list)
    assert [Path(row["file"]).name for row in rows] == ["A.token", "B%2F..%2FC.token"]
    for row in rows:
        path = Path(row["file"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert jwt.decode(path.read_text().strip(), options={"verify_signature": False})["sub"] == row["name"]


def test_a_readers_token_is_no_writers(run: Run):
    run("token", "keys", "add", "--readers")
    token = run("token", "issue", "alice", "--reader", "--audience", AUDIENCE).stdout.strip()
    assert jwt.decode(token, options={"verify_signature": False})["iss"] == READERS
    assert run("token", "issue", "alice", "--audience", AUDIENCE).exit_code == 2


def test_without_a_key_the_command_says_what_to_do(run: Run):
    result = run("token", "issue", ENTRY, "--factory", FACTORY, "--audience", AUDIENCE)
    assert result.exit_code == 1
    assert "`site-db token keys add` makes one" in result.stderr
