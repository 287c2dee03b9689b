"""A stand-in for an image registry on this machine: manifests, tokens for anybody, and the ways in which registries refuse."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIGEST = "sha256:" + "a" * 64
TOKEN = "token-for-anybody"


class _Handler(BaseHTTPRequestHandler):
    server: "Server"

    def log_message(self, *_: Any) -> None:  # noqa: ANN401  the base class has it so
        """Says nothing."""

    def do_HEAD(self) -> None:
        self.server.seen.append(("HEAD", self.path, self.headers.get("Authorization")))
        name = self.path.split("/manifests/")[0].removeprefix("/v2/")
        answer = {"limited": 429, "broken": 503, "elsewhere": 307}.get(name)
        if answer == 307:
            self._answer(307, Location=self.server.leads_to)
        elif answer:
            self._answer(answer)
        elif name.startswith(("open", "private", "odd")) and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            realm = self.server.leads_to if name == "odd" else f"http://{self.server.host}/token"
            self._answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="s",scope="repository:{name}:pull"')
        elif self.path.endswith("/none"):
            self._answer(404)
        else:
            self._answer(200, Docker_Content_Digest=DIGEST, Content_Length="528")

    def do_GET(self) -> None:
        self.server.seen.append(("GET", self.path, self.headers.get("Authorization")))
        private = "private" in self.path
        body = json.dumps({"errors": []} if private else {"token": TOKEN}).encode()
        self._answer(401 if private else 200, Content_Length=str(len(body)))
        self.wfile.write(body)

    def _answer(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content_Length": "0", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    leads_to = "file:///etc/passwd"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, str | None]] = []
        self.host = f"127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def registry() -> Iterator[Server]:
    """A running registry: ``host`` is its HOST:PORT, ``seen`` what was asked."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
