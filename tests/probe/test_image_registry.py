"""Asking a registry for a manifest, without pulling it."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.detectors import image_registry
from probe.detectors.image_registry import Target
from tests.probe.registry_standin import DIGEST, TOKEN, Server, registry
from tests.probe.samples import HUNG, died, done

HUB = image_registry.DEFAULT_HOST


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("docker://alpine", Target(HUB, "/v2/library/alpine/manifests/latest")),
        ("docker://rockylinux:9", Target(HUB, "/v2/library/rockylinux/manifests/9")),
        ("docker://ns/name:1.2", Target(HUB, "/v2/ns/name/manifests/1.2")),
        ("docker://docker.io/ns/name", Target(HUB, "/v2/ns/name/manifests/latest")),
        ("docker://h.example/a/b/c:x", Target("h.example", "/v2/a/b/c/manifests/x")),
        ("docker://h.example:5000/a", Target("h.example:5000", "/v2/a/manifests/latest")),
        ("docker://localhost/a", Target("localhost", "/v2/a/manifests/latest")),
        (f"oras://h.example/a@sha256:{'0' * 64}", Target("h.example", f"/v2/a/manifests/sha256:{'0' * 64}")),
        (f"docker://h.example/a:1@sha256:{'0' * 64}", Target("h.example", f"/v2/a/manifests/sha256:{'0' * 64}")),
        ("library://h.example/e/c/n:t", Target("h.example", "/v1/images/e/c/n:t?arch=amd64")),
        ("library://e/c/n:t", None),  # no host: which library is meant is the runtime's configuration
        ("https://h.example/x.sif", Target("h.example", "/x.sif")),
        ("shub://a/b", None),
        ("docker://", None),
        ("docker://h.example/../../x", None),
        ("docker://h.example/a b", None),
        ("docker://h.example/a:b?c=d", None),
        ("docker://user:pass@h.example/a", None),
        ("docker://h.example/A$(id)", None),
        ("https://user@h.example/x", None),
    ],
)
def test_what_a_url_asks_of_which_host(url, target):
    assert image_registry.target_of(url) == target


@given(st.text(max_size=60))
def test_any_text_is_a_target_without_blanks_or_none(text):
    for scheme in image_registry.SCHEMES:
        target = image_registry.target_of(f"{scheme}://{text}")
        assert target is None or not set(target.host) & set(" @/?#\r\n")


@pytest.fixture
def server() -> Iterator[Server]:
    with registry() as running:
        yield running


def told(server: Server, name: str, **others: object) -> tuple[str, str | None]:
    """Status and reason for an image of the stand-in's."""
    answer = image_registry.ask(f"docker://{server.host}/{name}", "x86_64", {}, [server.host], **others)
    row = image_registry.judge(done(answer))
    return row["status"], row["reason"]


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("plain:1", "ok", None),
        ("open/image:1", "ok", None),
        ("plain:none", "fail", "image_missing"),
        ("open/image:none", "fail", "image_missing"),
        ("private/image", "fail", "registry_auth_needed"),
        ("limited", "fail", "registry_rate_limited"),
        ("broken", "fail", "registry_unreachable"),
        ("elsewhere", "fail", "registry_unreachable"),  # it leads to file://
        ("odd", "fail", "registry_unreachable"),  # as does its realm
    ],
)
def test_the_registrys_answer_is_told(server, name, status, reason):
    assert told(server, name) == (status, reason)


def test_the_token_that_anybody_gets_is_used_and_nothing_is_pulled(server):
    assert told(server, "open/image:1") == ("ok", None)
    (first, asked, second) = server.seen
    assert (first[0], first[2]) == ("HEAD", None)
    assert asked == ("GET", "/token?service=s&scope=repository%3Aopen%2Fimage%3Apull", None)
    assert second == ("HEAD", "/v2/open/image/manifests/1", f"Bearer {TOKEN}")


def test_the_manifests_digest_and_size_are_evidence(server):
    answer = image_registry.ask(f"oras://{server.host}/plain:1", "x86_64", {}, [server.host])
    assert image_registry.judge(done(answer))["evidence"] == {"http_status": 200, "digest": DIGEST, "bytes": 528}


def test_without_the_setting_nothing_is_asked_in_the_clear(server):
    answer = image_registry.ask(f"docker://{server.host}/plain:1", "x86_64", {}, [])
    assert image_registry.judge(done(answer))["reason"] == "registry_unreachable"
    assert server.seen == []


def test_a_proxy_of_the_node_is_used(server):
    answer = image_registry.ask(
        "docker://h.invalid/plain:1", "x86_64", {"http_proxy": f"http://{server.host}"}, ["h.invalid"]
    )
    assert answer["http_status"] == 200
    assert server.seen[0][1] == "http://h.invalid/v2/plain/manifests/1"


def test_who_does_not_answer_is_unreachable(monkeypatch):
    monkeypatch.setattr(image_registry, "SOCKET_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        answer = image_registry.ask(f"docker://{host}/plain", "x86_64", {}, [host])
    assert image_registry.judge(done(answer))["reason"] == "registry_unreachable"


@pytest.mark.parametrize(
    ("result", "status", "reason"),
    [
        (HUNG, "timeout", "registry_unreachable"),
        (died("no"), "fail", "registry_unreachable"),
        (done({"unsupported": True}), "skipped", "not_applicable"),
    ],
)
def test_what_became_of_the_asking_is_told(result, status, reason):
    row = image_registry.judge(result)
    assert (row["status"], row["reason"]) == (status, reason)
    assert row["message"]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ('Bearer realm="https://a/t",service="s",scope="x:y"', ("https://a/t", {"service": "s", "scope": "x:y"})),
        ('Bearer service="s"', None),
        ('Basic realm="x"', None),
        ("", None),
    ],
)
def test_a_challenge_is_read(text, parsed):
    assert image_registry.parse_challenge(text) == parsed
