from html.parser import HTMLParser

import httpx
import orjson

from tests.sample_reports import sample_report

HOSTILE = "<script>alert(1)</script><img src=x onerror=y>\" 'onx=\u202e{{7*7}}"


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_the_page_shows_a_hostile_site_harmlessly(client: httpx.Client):
    report = sample_report(glidein__site=HOSTILE, glidein__entry=HOSTILE)
    headers = {"content-type": "application/json"}
    assert client.post("/api/v1/reports", content=orjson.dumps(report), headers=headers).status_code == 201
    page = client.get("/")
    found = Elements()
    found.feed(page.text)
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert not [name for name in found.attributes if name.startswith("on")]
    assert "&lt;script&gt;" in page.text
    assert "\\u202e{{7*7}}" in page.text
    assert "\u202e" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_loads_nothing_from_elsewhere(client: httpx.Client):
    page = client.get("/").text
    assert "src=" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "No report is stored yet" in page
