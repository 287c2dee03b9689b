"""Network: proxies without their passwords, connections where asked for."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import socket

import pytest

from probe.detectors import network
from tests.probe.samples import settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("http://user:secret@proxy.example:3128", "http://proxy.example:3128"),
        ("http://user@proxy.example/x", "http://proxy.example/x"),
        ("http://user:se@cret@proxy.example", "http://proxy.example"),
        ("http://user:se/cret@proxy.example:1", "http://proxy.example:1"),
        ("user:secret@proxy.example:3128", "proxy.example:3128"),
        ("DIRECT", "DIRECT"),
        ("", ""),
    ],
)
def test_a_proxy_is_shown_without_user_and_password(url, shown):
    assert network.without_password(url) == shown


def test_a_list_of_proxies_is_shown_without_any_password():
    """CVMFS writes proxies so: alternatives with |, groups with ;."""
    assert "secret" not in network.without_password("http://u:secret@a:1|http://u:secret@b:1;http://u:secret@c:1")


def test_proxies_of_environment_and_glidein():
    found = network.proxies(
        settings({"PROXY_URL": "http://u:p@g:1"}), {"http_proxy": "http://u:p@e:1", "https_proxy": ""}
    )
    assert found == [{"source": "http_proxy", "url": "http://e:1"}, {"source": "PROXY_URL", "url": "http://g:1"}]


def test_a_connection_is_timed_and_a_refused_one_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"127.0.0.1:{server.getsockname()[1]}"
        assert 0 < network.connect(target) < 4
    with pytest.raises(ConnectionRefusedError):
        network.connect(target)
