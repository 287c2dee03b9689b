"""Who may write and read, over HTTP against a real collector with tokens; every attack that we know is refused."""

import asyncio
import base64
import hmac
import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import jwt
import orjson
import pytest
from starlette.datastructures import Headers

from reports.authorization import Caller
from reports.collector import create_app
from reports.serve_configuration import make_authorizer
from reports.tokens.authorizer import Readers, TokenAuthorizer
from reports.tokens.issuing import Wanted, issue
from reports.tokens.keys import READERS, add_key, secret_key
from reports.tokens.rules import Rules
from site_db.store import Store
from tests.reports.conftest import ANY_AGE, running
from tests.reports.issuers import AUDIENCE, Issuer, ec_key, issuing, jwk, public_pem, rsa_key
from tests.sample_reports import sample_report

FACTORY, ENTRY, SITE = "Example-Factory", "Example_T2_CE1", "Example-T2"
SECRET = bytes(range(32))
MINE = {"glidein__factory": FACTORY, "glidein__entry": ENTRY, "glidein__site": SITE}


class Place(NamedTuple):
    """A collector with tokens, its issuer and its folder of keys."""

    client: httpx.Client
    issuer: Issuer
    keys: Path
    store: Store

    def post(self, token: str | None, batch: bool = False, *reports: dict[str, Any]) -> httpx.Response:
        content = b"\n".join(map(orjson.dumps, reports or (sample_report(**MINE),)))
        headers = {"content-type": "application/x-ndjson" if batch else "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return self.client.post("/api/v1/reports", content=content, headers=headers)

    def stored(self, report: dict[str, Any]) -> dict[str, Any] | None:
        raw = self.store.raw_report(bytes.fromhex(report["report_id"].replace("-", "")))
        return json.loads(raw) if raw else None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tokens")
    keys = folder / "keys"
    for factory, key_id, secret in ((FACTORY, "k1", SECRET), ("Other", "o1", None), (READERS, "r", None)):
        add_key(keys, factory, key_id, secret)
    store = Store.open(f"sqlite:///{folder / 'site.db'}")
    with issuing() as issuer:
        rule = {"factories": [FACTORY], "entries": ["CMS_*", ENTRY], "sites": [SITE, "CMS-T1"]}
        document = {
            "tokens": {"audience": [AUDIENCE], "keys": str(keys)},
            "sites": {FACTORY: {"Mapped": SITE}},
            "issuer": [
                {
                    "url": issuer.url,
                    "rule": [
                        {"scope": "reports.write", **rule},
                        {"group": "/cms/pilots", **rule},
                        {"scope": "reports.read", "read": True},
                    ],
                }
            ],
            "readers": {"proxies": ["127.0.0.1/32"]},
        }
        app = create_app(store, ANY_AGE, make_authorizer(document))
        with running(app) as url, httpx.Client(base_url=url, timeout=20) as client:
            yield Place(client, issuer, keys, store)
    store.close()


def claims(**changes: object) -> dict[str, Any]:
    """What GlideinWMS puts into the logging token of an entry; a change to None leaves the claim out."""
    now = int(time.time())
    made = {
        "iss": FACTORY,
        "sub": ENTRY,
        "aud": quote(AUDIENCE, safe=""),
        "iat": now,
        "nbf": now - 300,
        "exp": now + 7 * 86400,
        "site": SITE,
    }
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


def signed(secret: bytes = SECRET, headers: dict[str, Any] | None = None, **changes: object) -> str:
    return jwt.encode(claims(**changes), secret, "HS256", headers=headers)


def raw_token(header: bytes, payload: bytes, secret: bytes = SECRET) -> str:
    """A token of exactly these bytes, with a good signature."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    parts.append(base64.urlsafe_b64encode(hmac.digest(secret, b".".join(parts), "sha256")).rstrip(b"="))
    return b".".join(parts).decode()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == answer.status_code
    assert problem["detail"].isprintable()
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    return answer.status_code, problem["type"].rpartition(":")[2]


# --- what is taken ---


def test_a_logging_token_of_glideinwms_is_taken(place: Place):
    assert "kid" not in jwt.get_unverified_header(signed())
    assert place.post(signed()).status_code == 201


@pytest.mark.parametrize("audience", [AUDIENCE, quote(AUDIENCE, safe=""), ["somewhere", AUDIENCE]], ids=str)
def test_the_audience_may_be_encoded_or_one_of_several(place: Place, audience: object):
    assert place.post(signed(aud=audience)).status_code == 201


def test_our_own_token_is_taken(place: Place):
    token = issue(place.keys, Wanted(FACTORY, ENTRY, AUDIENCE, site=SITE), datetime.now(UTC))
    assert jwt.get_unverified_header(token)["kid"] == "k1"
    assert place.post(token).status_code == 201


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("grant", [{"scope": "openid reports.write"}, {"wlcg.groups": ["/cms", "/cms/pilots"]}])
def test_a_token_of_an_issuer_is_taken_by_scope_or_group(place: Place, algorithm: str, grant: dict[str, Any]):
    key, key_id = (rsa_key(), "r1") if algorithm == "RS256" else (ec_key(), "e1")
    report = sample_report(**{**MINE, "glidein__entry": "CMS_T1", "glidein__site": "CMS-T1"})
    assert place.post(place.issuer.token(key, key_id, **grant), False, report).status_code == 201


def test_a_token_that_names_no_key_is_tried_with_those_of_its_issuer(place: Place):
    assert place.post(place.issuer.token(rsa_key(), None, scope="reports.write")).status_code == 201


@pytest.mark.parametrize("skew", [{"exp": -30}, {"nbf": 30, "iat": 30}], ids=["expired", "early"])
def test_clocks_may_differ_by_less_than_a_minute(place: Place, skew: dict[str, int]):
    now = int(time.time())
    assert place.post(signed(**{name: now + offset for name, offset in skew.items()})).status_code == 201


def test_a_token_is_no_single_ticket_and_a_replayed_report_is_known(place: Place):
    report, token = sample_report(**MINE), signed()
    assert [place.post(token, False, report).status_code for _ in range(3)] == [201, 200, 200]
    assert place.post(token).status_code == 201


# --- whose report ---


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"glidein__entry": "Example_T2_CE2"}, "other_entry"),
        ({"glidein__entry": ENTRY + " "}, "other_entry"),
        ({"glidein__factory": "Other"}, "other_factory"),
        ({"glidein__site": "Another-T2"}, "other_site"),
    ],
)
def test_a_report_of_another_is_refused_and_the_difference_named(place: Place, changes: dict[str, Any], reason: str):
    report = sample_report(**{**MINE, **changes})
    answer = place.post(signed(), False, report)
    assert refusal(answer) == (403, reason)
    [value] = changes.values()
    assert f'"{value}"' in answer.json()["detail"]
    assert place.stored(report) is None


def test_a_report_that_names_nothing_is_stored_as_the_tokens(place: Place):
    report = sample_report(glidein__factory=None, glidein__entry=None, glidein__site=None)
    assert place.post(signed(), False, report).status_code == 201
    stored = place.stored(report)
    assert stored is not None
    assert {name: stored["glidein"][name] for name in ("factory", "entry", "site")} == {
        "factory": FACTORY,
        "entry": ENTRY,
        "site": SITE,
    }
    del stored["glidein"], report["glidein"]
    assert stored == report


def test_a_token_for_several_entries_needs_a_report_that_says_which(place: Place):
    token = place.issuer.token(scope="reports.write")
    assert refusal(place.post(token, False, sample_report(**{**MINE, "glidein__entry": None}))) == (403, "other_entry")


def test_an_entry_is_a_name_and_no_pattern(place: Place):
    assert refusal(place.post(signed(sub="Example_*"))) == (403, "other_entry")


def test_a_token_without_a_site_has_that_of_its_entry_or_none(place: Place):
    mapped = {**MINE, "glidein__entry": "Mapped"}
    assert place.post(signed(sub="Mapped", site=None), False, sample_report(**mapped)).status_code == 201
    elsewhere = sample_report(**{**mapped, "glidein__site": "Another-T2"})
    assert refusal(place.post(signed(sub="Mapped", site=None), False, elsewhere)) == (403, "other_site")
    assert refusal(place.post(signed(site=None))) == (403, "other_site")
    nowhere = sample_report(**{**MINE, "glidein__site": None})
    assert place.post(signed(site=None), False, nowhere).status_code == 201


def test_in_a_batch_each_line_is_judged_alone(place: Place):
    mine, other = sample_report(**MINE), sample_report(**{**MINE, "glidein__entry": "Example_T2_CE2"})
    answer = place.post(signed(), True, mine, other, sample_report(**MINE))
    results = [json.loads(line) for line in answer.text.splitlines()]
    assert [result["status"] for result in results] == ["new", "rejected", "new"]
    assert "Example_T2_CE2" in results[1]["problems"][0]["detail"]
    assert place.stored(other) is None


def test_a_valid_token_without_a_rule_has_no_right(place: Place):
    assert refusal(place.post(place.issuer.token(scope="storage.read:/"))) == (403, "no_rule")


# --- attacks: none of these may write ---


def changed(index: int, **members: object) -> str:
    """A good token whose header (0) or payload (1) was changed after signing."""
    parts = signed().split(".")
    found = json.loads(base64.urlsafe_b64decode(parts[index] + "=="))
    parts[index] = base64.urlsafe_b64encode(json.dumps({**found, **members}).encode()).rstrip(b"=").decode()
    return ".".join(parts)


def unsigned(algorithm: str) -> str:
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()).rstrip(b"=").decode()
    payload = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}."


def in_seconds(offset: int) -> int:
    return int(time.time()) + offset


def confused(issuer: Issuer) -> str:
    """Signed with HS256 and the issuer's public key as the secret: what a careless verifier takes for RS256."""
    body = json.dumps({**claims(), "iss": issuer.url, "scope": "reports.write"}).encode()
    return raw_token(b'{"alg":"HS256","kid":"r1"}', body, public_pem(rsa_key()))


HS = b'{"alg":"HS256"}'
GOOD = lambda: json.dumps(claims()).encode()  # noqa: E731 - a table of attacks follows
ATTACKS: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "alg none": (lambda _: unsigned("none") + "x", "bad_algorithm"),
    "alg none, no signature": (lambda _: unsigned("none"), "malformed_token"),
    "alg None in another case": (lambda _: unsigned("nOnE") + "x", "bad_algorithm"),
    "alg changed to none": (lambda _: changed(0, alg="none"), "bad_algorithm"),
    "alg missing": (lambda _: raw_token(b"{}", GOOD()), "malformed_token"),
    "alg a list": (lambda _: raw_token(b'{"alg":["HS256"]}', GOOD()), "malformed_token"),
    "alg HS512": (lambda _: jwt.encode(claims(), SECRET * 2, "HS512"), "bad_algorithm"),
    "public key as secret": (confused, "bad_algorithm"),
    "RS256 in the name of a factory": (
        lambda i: i.token(iss=FACTORY, sub=ENTRY, site=SITE),
        "bad_algorithm",
    ),
    "ES256 with the id of an RSA key": (lambda i: i.token(ec_key(), "r1", scope="reports.write"), "unknown_key"),
    "signed by a stranger's key": (lambda i: i.token(rsa_key("stranger"), scope="reports.write"), "bad_signature"),
    "signed by another factory": (
        lambda _: jwt.encode(claims(), SECRET[::-1], "HS256", headers={"kid": "k1"}),
        "bad_signature",
    ),
    "the id of another factory's key": (lambda _: signed(headers={"kid": "o1"}), "unknown_key"),
    "unknown factory": (lambda _: signed(iss="Nobody"), "unknown_key"),
    "unknown issuer": (lambda i: i.token(iss="https://evil.example.org"), "bad_algorithm"),
    "issuer with a slash more": (lambda i: i.token(iss=i.url + "/"), "bad_algorithm"),
    "other audience": (lambda _: signed(aud="https://other.example.org"), "other_audience"),
    "audience ANY": (lambda _: signed(aud="ANY"), "other_audience"),
    "WLCG's any audience": (
        lambda i: i.token(aud="https://wlcg.cern.ch/jwt/v1/any", scope="reports.write"),
        "other_audience",
    ),
    "part of the audience": (lambda _: signed(aud=AUDIENCE[:-1]), "other_audience"),
    "no audience": (lambda i: i.token(aud=[], scope="reports.write"), "malformed_token"),
    "audience a number": (lambda _: signed(aud=7), "malformed_token"),
    "audience with an object": (lambda _: signed(aud=[AUDIENCE, {}]), "malformed_token"),
    "expired": (lambda _: signed(exp=in_seconds(-61)), "expired"),
    "not yet valid": (lambda _: signed(nbf=in_seconds(120)), "not_yet_valid"),
    "issued in the future": (lambda _: signed(iat=in_seconds(120)), "not_yet_valid"),
    "exp infinite": (
        lambda _: raw_token(HS, json.dumps(claims(exp="E")).encode().replace(b'"E"', b"1e999")),
        "malformed_token",
    ),
    "exp a text": (lambda _: signed(exp=str(in_seconds(600))), "malformed_token"),
    "exp true": (lambda _: signed(exp=True), "malformed_token"),
    "exp huge": (
        lambda _: raw_token(HS, json.dumps(claims(exp="E")).encode().replace(b'"E"', b"9" * 5000)),
        "malformed_token",
    ),
    "no iss": (lambda _: signed(iss=None), "missing_claim"),
    "no sub": (lambda _: signed(sub=None), "missing_claim"),
    "no aud": (lambda _: signed(aud=None), "missing_claim"),
    "no exp": (lambda _: signed(exp=None), "missing_claim"),
    "sub empty": (lambda _: signed(sub=""), "malformed_token"),
    "sub a list": (lambda _: raw_token(HS, json.dumps(claims(sub=[ENTRY])).encode()), "malformed_token"),
    "payload changed": (lambda _: changed(1, sub="Example_T2_CE2"), "bad_signature"),
    "a claim twice": (
        lambda _: raw_token(HS, GOOD()[:-1] + b',"sub":"Example_T2_CE2"}'),
        "malformed_token",
    ),
    "a header member twice": (lambda _: raw_token(b'{"alg":"none","alg":"HS256"}', GOOD()), "malformed_token"),
    "payload a list": (lambda _: raw_token(HS, b"[]"), "malformed_token"),
    "payload NaN": (lambda _: raw_token(HS, GOOD()[:-1] + b',"x":NaN}'), "malformed_token"),
    "payload deep": (lambda _: raw_token(HS, b'{"x":' + b"[" * 4000), "malformed_token"),
    "payload not UTF-8": (lambda _: raw_token(HS, b'{"\xff":1}'), "malformed_token"),
    "site a number": (lambda _: signed(site=7), "malformed_token"),
    "crit": (lambda _: raw_token(b'{"alg":"HS256","crit":["exp"],"exp":1}', GOOD()), "malformed_token"),
    "b64": (lambda _: raw_token(b'{"alg":"HS256","b64":false}', GOOD()), "malformed_token"),
    "huge": (lambda _: signed(x="x" * 10_000), "token_too_large"),
    "four parts": (lambda _: signed() + ".x", "malformed_token"),
    "encrypted": (lambda _: "a.b.c.d.e", "malformed_token"),
    "another alphabet": (lambda _: signed().replace(".", "+"), "malformed_token"),
    "padded": (lambda _: signed() + "=", "malformed_token"),
    "no signature": (lambda _: signed().rpartition(".")[0] + ".", "malformed_token"),
    "signature cut": (lambda _: signed()[:-3], "bad_signature"),
    "kid a path": (lambda _: signed(headers={"kid": "../Other/o1"}), "unknown_key"),
    "kid of a file": (lambda _: raw_token(b'{"alg":"HS256","kid":"../../../../dev/null"}', GOOD(), b""), "unknown_key"),
    "kid SQL": (lambda _: signed(headers={"kid": "k1' OR '1'='1"}), "unknown_key"),
    "kid with NUL": (lambda _: signed(headers={"kid": "k1\x00"}), "unknown_key"),
    "kid with a line": (lambda _: signed(headers={"kid": "k1\r\nX: y"}), "unknown_key"),
    "kid empty": (lambda _: signed(headers={"kid": ""}), "malformed_token"),
    "kid a number": (lambda _: raw_token(b'{"alg":"HS256","kid":1}', GOOD()), "malformed_token"),
    "factory a path": (lambda _: signed(iss="../keys/" + FACTORY), "unknown_key"),
    "own key in the header": (
        lambda i: jwt.encode(
            {**claims(), "iss": i.url, "scope": "reports.write"},
            rsa_key("stranger"),
            "RS256",
            headers={"kid": "r1", "jwk": jwk(rsa_key("stranger"), "r1"), "x5c": ["AAAA"]},
        ),
        "bad_signature",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(place: Place, name: str):
    make, reason = ATTACKS[name]
    answer = place.post(make(place.issuer))
    assert refusal(answer) == (401, reason)
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("header", ["jku", "x5u"])
def test_a_token_cannot_name_where_its_key_is(place: Place, header: str):
    with issuing() as evil:
        headers = {"kid": "r1", header: f"{evil.url}/jwks"}
        made = {**claims(), "iss": place.issuer.url, "scope": "reports.write"}
        token = jwt.encode(made, rsa_key("stranger"), "RS256", headers=headers)
        assert refusal(place.post(token)) == (401, "bad_signature")
        assert evil.fetched == []


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Basic dXNlcjpwYXNz", "Bearer a b", "bearer \x7f", "Bearer " + "é" * 9]
)
def test_an_authorization_that_is_no_bearer_token_is_refused(place: Place, header: str):
    headers = {"authorization": header.encode("latin-1"), "content-type": b"application/json"}
    answer = place.client.post("/api/v1/reports", content=b"{}", headers=headers)
    assert refusal(answer) == (401, "malformed_token")


def test_two_authorizations_are_none(place: Place):
    headers = [
        ("authorization", f"Bearer {signed()}"),
        ("authorization", "Bearer x"),
        ("content-type", "application/json"),
    ]
    answer = place.client.post("/api/v1/reports", content=orjson.dumps(sample_report(**MINE)), headers=headers)
    assert refusal(answer) == (401, "malformed_token")


def test_no_token_is_asked_for_one(place: Place):
    answer = place.post(None)
    assert refusal(answer) == (401, "no_token")
    assert answer.headers["www-authenticate"] == 'Bearer realm="site-db"'


def test_a_secret_that_is_a_public_key_is_no_key():
    for shared in (public_pem(rsa_key()), public_pem(ec_key()), json.dumps(jwk(rsa_key(), "r1")).encode()):
        with pytest.raises(ValueError, match="not a shared secret"):
            secret_key(FACTORY, "k", shared)


# --- readers ---


def test_reading_needs_a_readers_token(place: Place):
    reader = issue(place.keys, Wanted(READERS, "alice", AUDIENCE), datetime.now(UTC))
    for path in ("/api/v1/sites", "/", "/metrics", "/changes.atom", "/api/v1/entries/Nobody"):
        assert refusal(place.client.get(path)) == (401, "no_token"), path
        assert refusal(place.client.get(path, headers={"authorization": f"Bearer {signed()}"})) == (403, "not_a_reader")
        assert place.client.get(path, headers={"authorization": f"Bearer {reader}"}).status_code in (200, 404), path
    assert refusal(place.post(reader)) == (403, "not_a_writer")
    scoped = place.issuer.token(scope="reports.read")
    assert place.client.get("/api/v1/sites", headers={"authorization": f"Bearer {scoped}"}).status_code == 200
    assert refusal(place.post(scoped)) == (403, "not_a_writer")
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert place.client.get(path).status_code == 200


def test_a_proxy_at_a_configured_address_vouches_for_readers_only(place: Place):
    vouched = {"x-remote-user": "alice@example.org"}
    assert place.client.get("/api/v1/sites", headers=vouched).status_code == 200
    assert refusal(place.client.get("/api/v1/sites", headers={"x-remote-user": ""})) == (401, "no_token")
    answer = place.client.post(
        "/api/v1/reports", content=b"{}", headers={**vouched, "content-type": "application/json"}
    )
    assert refusal(answer) == (401, "no_token")


# --- what is told ---


def test_no_token_gets_into_the_log_or_an_answer(place: Place, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        tokens = [make(place.issuer) for make, _ in ATTACKS.values()] + [signed()]
        answers = [place.post(token).text for token in tokens]
        answers.append(place.post(signed(), False, sample_report(**{**MINE, "glidein__entry": "X"})).text)
        metrics = place.client.get("/metrics", headers={"x-remote-user": "x"}).text
    for token in tokens:
        for part in token.split("."):
            if len(part) > 20:
                assert part not in caplog.text + metrics + "".join(answers)
    assert base64.b64encode(SECRET).decode()[:20] not in caplog.text
    assert 'site_db_refused_total{reason="bad_signature",status="401"}' in metrics


def test_a_token_is_remembered_until_it_expires_and_the_memory_is_bounded(tmp_path: Path):
    add_key(tmp_path, FACTORY, "k1", SECRET)
    verifier = make_authorizer({"tokens": {"audience": [AUDIENCE], "keys": str(tmp_path)}}).verifier
    now = [time.time()]
    authorizer = TokenAuthorizer(verifier, Rules({}, {}), Readers(), remembered=3, clock=lambda: now[0])

    def show(token: str) -> tuple[int, int]:
        asyncio.run(authorizer.sender(Caller(Headers({"authorization": f"Bearer {token}"}), None)))
        return authorizer.hits, authorizer.misses

    token = signed(exp=in_seconds(600))
    assert [show(token) for _ in range(3)] == [(0, 1), (1, 1), (2, 1)]
    now[0] += 700  # for the memory: what it has forgotten is verified anew, by the real clock
    assert show(token) == (2, 2)
    now[0] -= 700
    for number in range(5):
        show(signed(sub=f"entry {number}"))
    assert len(authorizer._known) == 3
    assert token.encode() not in repr(authorizer._known).encode()
