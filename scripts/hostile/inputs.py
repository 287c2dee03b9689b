"""Hostile requests by the thousand: each family spoils another layer, from bytes that are no HTTP to reports that fit.

Everything follows from a random.Random: equal seeds, equal requests.
"""

import base64
import copy
import functools
import gzip
import json
import random
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import zstandard

# What the ways out must not let through: terminals, HTML, spreadsheets, ClassAds, logs, templates, paths, databases.
TEXTS = (
    "\x1b]0;owned\x07\x1b[2J\x1b[31m",
    "\x9b31m\x85\u2028forged line",
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "=cmd|' /C calc'!A0",
    "+1+1\t@SUM(A1)",
    "\r\nSet-Cookie: a=b\r\n\r\nERROR forged",
    'x"; Requirements = True; y = "',
    "\u202egnp.exe\u200b\ufeff",
    "{{7*7}}{% raw %}${7*7}#{7*7}",
    "%s%n%x%(levelname)s{0}{record.args}",
    "../../../../etc/passwd",
    "'; DROP TABLE reports; --",
    "\ufdd0\U0010ffff\u0300" * 8,
    "\x00",
    "\x7f\x08\x08",
    "a" * 255,
    "&lt;&#60;]]><![CDATA[<!--",
    "!!python/object/apply:os.system [id]",
)
WORST: tuple[Any, ...] = (
    None, True, [], {}, "", -1, 0, 1e308, -0.0, 2**63, 2**64, 10**400 // 10**100, "x" * 5000, [[]] * 50, {"": {}}, "\ud7ff",
)  # fmt: skip


@functools.cache
def bomb(encoding: str, byte: bytes) -> bytes:
    """Thirty million times the same byte, packed."""
    unfolded = byte * 30_000_000
    return zstandard.ZstdCompressor().compress(unfolded) if encoding == "zstd" else gzip.compress(unfolded, 1)


class Request(NamedTuple):
    """One request: HTTP's parts, or in `raw` all its bytes. `family` says who made it."""

    family: str
    method: str = "POST"
    path: str = "/api/v1/reports"
    headers: dict[str, str] = {}
    body: bytes = b""
    raw: bytes = b""


class Material:
    """Makes hostile requests out of a good report. `token` gives the token of an entry of this name."""

    def __init__(self, seed: int, report: dict[str, Any], token: Callable[[str], str], paths: list[str]) -> None:
        self._random = random.Random(seed)
        self._report = report
        self._token = token
        self._paths = paths
        self._names = [self._text() for _ in range(300)]
        self._families = (
            *[self.stored_texts] * 3, self.spoilt_report, self.spoilt_json, self.packed, self.batch, self.question,
            self.no_http, self.spoilt_token, self.headers_only,
        )  # fmt: skip

    def requests(self, count: int) -> Iterator[Request]:
        """So many requests, of all families in turn."""
        for number in range(count):
            yield self._families[number % len(self._families)]()

    def stored_texts(self) -> Request:
        """A report that fits the schema, with hostile names that are stored and shown again."""
        # As many names as a large fleet has: lists grow with them, and memory is to be seen to grow with nothing else.
        entry, site, resource = (self._random.choice(self._names) for _ in range(3))
        report = self._fresh(glidein={"entry": entry, "site": site, "resource": resource})
        report["host"]["hostname"] = self._text()
        report["host"]["os"] = {name: self._text()[:60] for name in report["host"]["os"]}
        report["singularity"]["message"] = self._text()
        for check in report["checks"]:
            check["evidence"] = {"stderr": self._text()}
        for image in report["images"]:
            image["ref"] = self._text()
        return self._one("stored texts", report, entry)

    def spoilt_report(self) -> Request:
        """A report with some members replaced, dropped, added or doubled."""
        report = self._fresh()
        for _ in range(self._random.randint(1, 4)):
            self._spoil(report)
        return self._one("spoilt report", report)

    def spoilt_json(self) -> Request:
        """JSON that was cut, had bytes changed, is deep, or comes in another encoding."""
        raw = orjson.dumps(self._fresh())
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: raw[: self._random.randrange(len(raw))],
            lambda: self._flipped(raw),
            lambda: b"[" * self._random.randint(1, 200_000),
            lambda: b'{"a":' * self._random.randint(1, 50_000),
            lambda: raw.decode().encode("utf-16"),
            lambda: b"\xef\xbb\xbf" + raw,
            lambda: raw.replace(b":", b':NaN,"x":', 1),
            lambda: raw.replace(b'"', b'"\\ud800', 3),
            lambda: raw[:-1] + b"," + raw[1:],
            lambda: self._random.randbytes(self._random.randrange(3000)),
            lambda: b"9" * self._random.randint(1, 100_000),
        )
        return self._posted("spoilt JSON", self._random.choice(ways)())

    def packed(self) -> Request:
        """Compressed bodies: cut, changed, announced falsely, unfolding without end."""
        raw = orjson.dumps(self._fresh())
        encoding = self._random.choice(["gzip", "zstd", "gzip", "zstd", "br", "gzip, gzip", self._text()])
        pack = gzip.compress if encoding != "zstd" else zstandard.ZstdCompressor().compress
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: pack(raw),
            lambda: pack(raw)[: self._random.randrange(1, 400)],
            lambda: self._flipped(pack(raw)),
            lambda: raw,
            lambda: bomb(encoding, self._random.choice([b"\n", b" ", b"[", b"\0"])),
            lambda: pack(pack(raw)),
        )
        kind = self._random.choice(["application/json", "application/x-ndjson"])
        return self._posted("packed", self._random.choice(ways)(), {"content-encoding": encoding, "content-type": kind})

    def batch(self) -> Request:
        """Good and bad lines together."""
        lines = []
        for _ in range(self._random.randint(1, 12)):
            made = self._random.choice([self.stored_texts, self.spoilt_report, self.spoilt_json])()
            lines.append(made.body[:20_000])
        ends = self._random.choice([b"\n", b"\r\n", b"\n\n\n", b"\r"])
        return self._posted("batch", ends.join(lines), {"content-type": "application/x-ndjson"})

    def question(self) -> Request:
        """A path of the description with hostile names and parameters, in any method."""
        path = self._random.choice(self._paths).replace("{", "").replace("}", "")
        named = self._quoted(self._text()) if self._random.random() < 0.6 else ""
        query = f"?{self._random.choice(['after', 'since', 'entry', 'site', 'q'])}={self._quoted(self._text())}"
        method = self._random.choice(["GET"] * 6 + ["HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
        tail = query if self._random.random() < 0.7 else ""
        return Request("question", method, path.replace("name", named) + tail, {}, b"")

    def no_http(self) -> Request:
        """Bytes that only resemble a request."""
        good = (
            b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
        )
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: self._flipped(good),
            lambda: self._random.randbytes(self._random.randint(1, 500)),
            lambda: good.replace(b"Content-Length: 2", b"Transfer-Encoding: chunked") + self._random.randbytes(20),
            lambda: good.replace(b"Length: 2", b"Length: " + self._random.choice([b"-1", b"2, 3", b"1e9", b"9" * 30])),
            lambda: good.replace(b"Host: x", b"Host: x\r\n" + b"X: y\r\n" * self._random.randint(1, 4000)),
            lambda: good.replace(b"/api/v1", b"/" + b"a" * self._random.randint(1, 60_000)),
            lambda: good * self._random.randint(2, 30),
            lambda: good.replace(b"HTTP/1.1", self._random.choice([b"HTTP/2.0", b"HTTP/0.9", b"RTSP/1.0"])),
        )
        return Request("no HTTP", raw=self._random.choice(ways)())

    def spoilt_token(self) -> Request:
        """A good report under a token with changed bytes, parts, header or claims."""
        token = self._token("Example_T2_CE1")
        parts = token.split(".")
        ways: tuple[Callable[[], str], ...] = (
            lambda: self._flipped(token.encode()).decode("latin-1"),
            lambda: ".".join(self._random.sample(parts, 3)),
            lambda: ".".join([*parts[:2], ""]),
            lambda: self._base64(b'{"alg":"none","kid":"../../x"}') + "." + parts[1] + ".",
            lambda: self._base64(b"{" * 3000) + "." + parts[1] + "." + parts[2],
            lambda: parts[0] + "." + self._base64(self._random.randbytes(300)) + "." + parts[2],
            lambda: token * self._random.randint(2, 60),
        )
        spoilt = "".join(c for c in self._random.choice(ways)() if c not in "\r\n\0")
        made = self._one("spoilt token", self._fresh())
        return made._replace(headers={**made.headers, "authorization": f"Bearer {spoilt}"})

    def headers_only(self) -> Request:
        """Hostile values in the headers that are looked at."""
        name = self._random.choice(
            ["content-type", "content-encoding", "authorization", "expect", "x-remote-user", "accept"]
        )
        value = "".join(c for c in self._text() if 32 <= ord(c) < 256).strip()
        made = self._one("headers", self._fresh())
        return made._replace(headers={**made.headers, name: value})

    def _one(self, family: str, report: dict[str, Any], entry: str = "Example_T2_CE1") -> Request:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token(entry)}"}
        return Request(family, headers=headers, body=self._dumped(report))

    def _posted(self, family: str, body: bytes, headers: dict[str, str] | None = None) -> Request:
        made = {"content-type": "application/json", "authorization": f"Bearer {self._token('Example_T2_CE1')}"}
        made.update(headers or {})
        return Request(family, headers={name: self._latin(value) for name, value in made.items()}, body=body)

    def _fresh(self, glidein: dict[str, str] | None = None) -> dict[str, Any]:
        report = copy.deepcopy(self._report)
        report["report_id"] = str(uuid.UUID(int=self._random.getrandbits(128)))
        report["created_at"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        report["glidein"].update({"factory": "Example-Factory", "entry": "Example_T2_CE1", **(glidein or {})})
        return report

    def _spoil(self, value: dict[Any, Any] | list[Any]) -> None:
        """Change one member somewhere below."""
        while isinstance(value, dict | list) and value:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            key = self._random.choice(keys)
            if not isinstance(value[key], dict | list) or self._random.random() < 0.25:
                break
            value = value[key]
        else:  # an empty object
            return
        if self._random.random() < 0.2:
            del value[key]
        elif self._random.random() < 0.2 and isinstance(value, dict):
            value[self._text()] = self._random.choice(WORST)
        else:
            value[key] = self._random.choice((*WORST, *TEXTS))

    def _dumped(self, report: dict[str, Any]) -> bytes:
        try:
            return orjson.dumps(report)
        except TypeError:  # an integer beyond 64 bits
            return json.dumps(report).encode()

    def _text(self) -> str:
        """A hostile text that is never the same twice."""
        text = self._random.choice(TEXTS)[:200] + self._random.choice(TEXTS)[:40]
        return text.replace("\x00", "") + str(self._random.randrange(1000))

    def _flipped(self, raw: bytes) -> bytes:
        spoilt = bytearray(raw)
        for _ in range(self._random.randint(1, 6)):
            spoilt[self._random.randrange(len(spoilt))] = self._random.randrange(256)
        return bytes(spoilt)

    def _quoted(self, text: str) -> str:
        return "".join(f"%{byte:02x}" for byte in text.encode()[: self._random.randint(1, 300)])

    def _latin(self, text: str) -> str:
        return "".join(c for c in text if 32 <= ord(c) < 127).strip() or "x"

    def _base64(self, raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
