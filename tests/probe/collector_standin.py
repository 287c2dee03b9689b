"""A small HTTP or HTTPS server that answers as its URL asks for, and notes what it received.

    http://127.0.0.1:PORT/201               this status; so do .../401, ...
    http://127.0.0.1:PORT/503,503,201       one after the other, the last one from then on
    .../hang .../drip .../huge .../portal   no answer; one without end; one of 64 MB; a page where a login is wanted
    .../nasty                               an answer that no report and no terminal should get as it is

Run as a program: NOTES [CERTIFICATE KEY]; it prints its port. NOTES gets a line of JSON for each POST. Answers other than
200 and 201 say in their body what was received, the token too: nothing of it may be told on.
"""

import gzip
import json
import ssl
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

seen: Counter[str] = Counter()
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """Answers POSTs; the first part of the path is what to answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        path = self.path.partition("://")[2].partition("/")[2] if "://" in self.path else self.path.lstrip("/")
        wanted, _, rest = path.partition("/")
        received = self._received("/" + rest)
        if wanted == "hang":
            time.sleep(60)
        if wanted == "drip":
            self._endless(b"x", 0.05)
        if wanted == "huge":
            self._endless(b"x" * 65536, 0)
        if wanted == "nasty":
            return self._answer(400, b"\0\x1b[2J \xff\xe2\x80\xae")
        if wanted == "portal":
            return self._answer(200, b"<html>Please log in</html>")
        with lock:
            statuses = wanted.split(",")
            status = int(statuses[min(seen[wanted], len(statuses) - 1)])
            seen[wanted] += 1
        stored = {"report_id": received["report_id"], "status": "new" if status == 201 else "known"}
        return self._answer(status, json.dumps(stored if status in (200, 201) else received).encode())

    def _received(self, path: str) -> dict[str, Any]:
        body = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
        received = {
            "path": path,
            "authorization": self.headers["Authorization"],
            "type": self.headers["Content-Type"],
            "report_id": body["report_id"],
            "report": body,
        }
        with lock, Path(sys.argv[1]).open("a") as notes:
            notes.write(json.dumps(received) + "\n")
        return {name: value for name, value in received.items() if name != "report"}

    def _endless(self, piece: bytes, pause_s: float) -> None:
        self.send_response(201)
        self.end_headers()
        for _ in range(1000):
            self.wfile.write(piece)
            self.wfile.flush()
            time.sleep(pause_s)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", "0")
        if status == 429:
            self.send_header("Retry-After", "600")
        if status == 302:
            self.send_header("Location", "http://user:secret@elsewhere.example/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """One that says nothing of clients that go away, which many of these tests do."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_port, flush=True)  # noqa: T201 - a program; its port is its answer
    server.serve_forever()
