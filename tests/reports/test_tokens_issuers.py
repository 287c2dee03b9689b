"""Public keys of issuers: what is fetched, what is believed of it, how long, and what an issuer's outage costs."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec

from reports.authorization import Refused
from reports.tokens.jwks import NoKeys, Source, fetch_keys, is_safe_url
from reports.tokens.keys import Key, KeySet, secret_key
from reports.tokens.sources import KeySource, Pace
from reports.tokens.verifying import Verifier
from site_db.errors import SiteDbError
from tests.reports.issuers import AUDIENCE, METADATA, Issuer, ec_key, issuing, jwk, public_pem, rsa_key

RFC8414 = "/.well-known/oauth-authorization-server"


def ids(keys: KeySet) -> set[tuple[str | None, str]]:
    return {(key.key_id, key.algorithm) for key in keys.keys}


def test_keys_are_found_by_the_issuers_metadata():
    with issuing() as issuer:
        assert ids(fetch_keys(Source(issuer.url))) == {("r1", "RS256"), ("e1", "ES256")}
        assert issuer.fetched == [METADATA, "/jwks"]
        issuer.answers[RFC8414] = issuer.answers.pop(METADATA)
        assert ids(fetch_keys(Source(issuer.url))) == {("r1", "RS256"), ("e1", "ES256")}
        assert ids(fetch_keys(Source(issuer.url, f"{issuer.url}/jwks", algorithms=["ES256"]))) == {("e1", "ES256")}


def test_only_public_keys_of_the_two_algorithms_are_taken():
    with issuing() as issuer:
        issuer.publish(
            jwk(rsa_key(), "good"),
            {"kty": "oct", "k": "AAAA", "kid": "secret", "alg": "HS256"},
            {"kty": "oct", "k": "AAAA", "kid": "secret", "alg": "RS256"},
            jwk(rsa_key("small", 1024), "small"),
            jwk(rsa_key(), "encryption", use="enc"),
            jwk(rsa_key(), "other algorithm", alg="PS256"),
            jwk(rsa_key(), "hmac", alg="HS256"),
            jwk(ec_key("curve", ec.SECP384R1), "other curve"),
            {**jwk(ec_key(), "off the curve"), "x": "AAAA"},
            {"kty": "RSA", "kid": "nothing"},
            {"kty": ["RSA"], "kid": "list"},
            {**jwk(rsa_key(), "kid"), "kid": {"a": 1}},
        )
        issuer.answers["/jwks"]["keys"] += [None, 7, "x", []]
        assert ids(fetch_keys(Source(issuer.url))) == {("good", "RS256")}


def redirect(issuer: Issuer) -> None:
    issuer.answers[METADATA] = 302


BAD_ANSWERS: dict[str, tuple[Callable[[Issuer], Any], str]] = {
    "nothing": (lambda i: i.answers.clear(), "HTTP 404"),
    "a redirect": (redirect, "HTTP 302"),
    "no JSON": (lambda i: i.answers.update({METADATA: b"<html>"}), "not JSON"),
    "a list": (lambda i: i.answers.update({METADATA: b"[]"}), "not a JSON object"),
    "deep": (lambda i: i.answers.update({METADATA: b"[" * 100_000}), "not JSON"),
    "huge": (lambda i: i.answers.update({"/jwks": b" " * 300_000}), "longer than 262144 bytes"),
    "another issuer's": (
        lambda i: i.answers.update({METADATA: {"issuer": "https://evil", "jwks_uri": i.url + "/jwks"}}),
        "another issuer",
    ),
    "an unsafe key set": (
        lambda i: i.answers.update({METADATA: {"issuer": i.url, "jwks_uri": "http://192.0.2.1/jwks"}}),
        "no https address",
    ),
    "a file": (
        lambda i: i.answers.update({METADATA: {"issuer": i.url, "jwks_uri": "file:///etc/passwd"}}),
        "no https address",
    ),
    "no key": (lambda i: i.publish(), "no key that can verify"),
    "keys a text": (lambda i: i.answers.update({"/jwks": {"keys": "x"}}), "no key that can verify"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_issuer_that_answers_badly_gives_no_keys(name: str):
    spoil, words = BAD_ANSWERS[name]
    with issuing() as issuer:
        spoil(issuer)
        with pytest.raises(NoKeys, match=words):
            fetch_keys(Source(issuer.url))


def test_an_issuer_that_is_not_there_gives_no_keys():
    with issuing() as issuer:
        url = issuer.url
    with pytest.raises(NoKeys, match="ConnectionError"):
        fetch_keys(Source(url))


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://scitokens.org/osg-connect", True),
        ("https://issuer.example.org:8443/path", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080/x", True),
        ("http://localhost/x", True),
        ("http://issuer.example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost@example.org", False),
        ("https://user:secret@example.org", False),
        ("ftp://127.0.0.1", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https://[", False),
        ("https://x:99999999", False),
        ("", False),
    ],
)
def test_keys_come_by_https_or_from_this_machine(url: str, is_safe: bool):
    assert is_safe_url(url) is is_safe


# --- time ---


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Loads:
    """Loads what `keys` holds, or fails; counts."""

    def __init__(self, *keys: Key) -> None:
        self.keys = keys
        self.is_broken = False
        self.count = 0

    def __call__(self) -> KeySet:
        self.count += 1
        if self.is_broken:
            raise SiteDbError("the issuer is away", "")
        return KeySet(self.keys)


def key(key_id: str) -> Key:
    return secret_key("F", key_id, key_id.encode() * 32)


async def settled(source: KeySource) -> None:
    """Wait for a load in the background."""
    while source._task and not source._task.done():
        await asyncio.sleep(0.001)


PACE = Pace(again_after_s=100, apart_s=60, stale_s=1000, wait_s=5)


def test_an_unknown_key_has_the_keys_read_again_at_most_once_a_minute():
    async def story() -> None:
        clock, loads = Clock(), Loads(key("a"))
        source = KeySource("F", loads, frozenset(("HS256",)), PACE, clock=clock)
        assert [found.key_id for found in await source.find("F", "a", "HS256")] == ["a"]
        for _ in range(50):
            assert await source.find("F", "b", "HS256") == []
        assert loads.count == 1
        loads.keys = (key("b"),)
        clock.now += 61
        found = await asyncio.gather(*(source.find("F", "b", "HS256") for _ in range(20)))
        assert [[one.key_id for one in keys] for keys in found] == [["b"]] * 20
        assert loads.count == 2
        assert await source.find("F", "a", "HS256") == []

    asyncio.run(story())


def test_stale_keys_count_for_a_while_and_then_no_more():
    async def story() -> None:
        clock, loads = Clock(), Loads(key("a"))
        source = KeySource("F", loads, frozenset(("HS256",)), PACE, clock=clock)
        await source.find("F", "a", "HS256")
        loads.is_broken = True
        clock.now += 999
        assert await source.find("F", "a", "HS256")
        await settled(source)
        assert (loads.count, source.failures) == (2, 1)
        version = source.version
        clock.now += 10
        source.look()
        assert source.version == version + 1
        assert await source.find("F", "a", "HS256") == []
        assert not source.is_known

    asyncio.run(story())


def test_the_version_changes_only_with_the_keys():
    async def story() -> None:
        clock, loads = Clock(), Loads(key("a"))
        source = KeySource("F", loads, frozenset(("HS256",)), PACE, KeySet([key("a")]), clock)
        assert source.version == 0
        clock.now += 101
        source.look()
        await settled(source)
        assert (loads.count, source.version) == (1, 0)
        loads.keys = (key("a"), key("b"))
        clock.now += 101
        source.look()
        await settled(source)
        assert (loads.count, source.version, source.count) == (2, 1, 2)

    asyncio.run(story())


def verifier(issuer: Issuer, pace: Pace) -> Verifier:
    source = KeySource(issuer.url, lambda: fetch_keys(Source(issuer.url)), frozenset(("RS256", "ES256")), pace)
    folder = KeySource("factories", KeySet, frozenset(("HS256",)), PACE, KeySet([key("a")]))
    return Verifier(folder, {issuer.url: source}, [AUDIENCE], {})


def reason_of(verify: Any) -> tuple[int, str]:  # noqa: ANN401 - a coroutine
    with pytest.raises(Refused) as caught:
        asyncio.run(verify)
    return caught.value.status, caught.value.reason


def test_an_issuers_outage_is_no_refusal_of_its_tokens():
    with issuing() as issuer:
        answers, token = dict(issuer.answers), issuer.token(scope="x")
        issuer.answers.clear()
        checked = verifier(issuer, PACE._replace(apart_s=0))
        assert reason_of(checked.verify(token)) == (503, "no_keys")
        issuer.answers.update(answers)
        assert asyncio.run(checked.verify(token)).scopes == {"x"}


def test_a_key_that_the_issuer_has_taken_back_verifies_nothing():
    with issuing() as issuer:
        checked = verifier(issuer, PACE._replace(again_after_s=0, apart_s=0))
        token = issuer.token()
        assert asyncio.run(checked.verify(token)).subject == "pilot"
        issuer.publish(jwk(rsa_key("two"), "r1"))

        async def later() -> None:
            checked.source_of(issuer.url).look()
            await settled(checked.source_of(issuer.url))
            await checked.verify(token)

        assert reason_of(later()) == (401, "bad_signature")


def test_a_key_set_exchanged_for_secrets_verifies_nothing():
    with issuing() as issuer:
        pem = public_pem(rsa_key())
        issuer.publish({"kty": "oct", "k": jwt.utils.base64url_encode(pem).decode(), "kid": "r1", "alg": "HS256"})
        assert reason_of(verifier(issuer, PACE).verify(issuer.token())) == (503, "no_keys")


def test_another_issuers_keys_do_not_verify():
    with issuing() as issuer, issuing() as other:
        other.publish(jwk(rsa_key("two"), "r1"))
        token = other.token(rsa_key("two"), iss=issuer.url)
        assert reason_of(verifier(issuer, PACE).verify(token)) == (401, "bad_signature")


def test_claims_of_any_form_are_read_without_harm():
    with issuing() as issuer:
        checked = verifier(issuer, PACE)
        for value in (7, None, {"a": 1}, ["x", 7, None], "x y", [["x"]]):
            found = asyncio.run(checked.verify(issuer.token(**{"scope": value, "wlcg.groups": value})))
            assert found.scopes <= {"x", "y"}
            assert json.dumps(sorted(found.groups))


def test_the_environment_chooses_neither_authorities_nor_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine tokens.example.org login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    sent: list[tuple[object, object]] = []

    def send(_adapter: object, request: requests.PreparedRequest, verify: object, **_options: object) -> None:
        sent.append((verify, request.headers.get("Authorization")))
        raise requests.ConnectionError

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with pytest.raises(NoKeys):
        fetch_keys(Source("https://tokens.example.org", ca_file="/own/ca.pem"))
    assert sent == [("/own/ca.pem", None)] * 2
