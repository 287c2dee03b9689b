"""Credentials are described and never copied."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.detectors import credentials


def token(claims: object) -> str:
    return ".".join(
        base64.urlsafe_b64encode(part.encode()).decode().rstrip("=")
        for part in ('{"alg":"x"}', json.dumps(claims), "SECRET")
    )


@pytest.mark.parametrize(
    ("claims", "kind", "issuer", "expires_at", "audience"),
    [
        (
            {"ver": "scitoken:2.0", "iss": "https://i", "exp": 0, "aud": "ANY"},
            "scitoken",
            "https://i",
            "1970-01-01T00:00:00Z",
            ["ANY"],
        ),
        ({"wlcg.ver": "1.0", "aud": ["a", "b"], "exp": 1700000000.9}, "wlcg", None, "2023-11-14T22:13:20Z", ["a", "b"]),
        ({"iss": "pool.example"}, "idtoken", "pool.example", None, None),
        ({"iss": 5, "exp": "soon", "aud": [1]}, "idtoken", "5", None, ["1"]),
        ({"exp": 1e300}, "idtoken", None, None, None),
        (
            {"exp": True, "aud": list("abcdefghijklmnopqrstuvwxyz")},
            "idtoken",
            None,
            "1970-01-01T00:00:01Z",
            list("abcdefghijklmnop"),
        ),
    ],
)
def test_a_token_is_described(claims, kind, issuer, expires_at, audience):
    found = credentials.describe_token(token(claims) + "\n")
    assert found == {"kind": kind, "issuer": issuer, "expires_at": expires_at, "audience": audience}


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c", "a.!!!.c", token([1]), token("x"), token(None), "-----BEGIN CERTIFICATE-----"]
)
def test_what_is_no_token_is_none(text):
    assert credentials.describe_token(text) is None


@given(
    st.dictionaries(
        st.sampled_from(["iss", "exp", "aud", "ver", "wlcg.ver", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
    )
)
def test_no_claim_breaks_the_description_or_shows_the_signature(claims):
    found = credentials.describe_token(token(claims))
    assert found is not None
    assert set(found) == {"kind", "issuer", "expires_at", "audience"}


@given(st.text())
def test_no_text_breaks_the_description(text: str):
    found = credentials.describe_token(text)
    assert found is None or set(found) == {"kind", "issuer", "expires_at", "audience"}


def test_a_very_long_claim_is_cut():
    found = credentials.describe_token(token({"iss": "x" * 5000, "aud": "y" * 5000}))
    assert found is not None
    assert (len(found["issuer"]), len(found["audience"][0])) == (1024, 1024)
