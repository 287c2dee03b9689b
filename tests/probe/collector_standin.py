"""A small HTTP server that answers as its URL asks for: http://127.0.0.1:PORT/STATUS or .../hang.

Run as a program it prints its port. Answers other than 200 and 201 say in their body what was received.
"""

import gzip
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers POSTs; the first part of the path is the status to answer with."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        wanted, _, path = self.path.lstrip("/").partition("/")
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        if wanted == "hang":
            time.sleep(60)
        if wanted == "drip":
            self.send_response(201)
            self.end_headers()
            while True:  # a proxy that never ends its answer
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        received = {
            "path": "/" + path,
            "authorization": self.headers["Authorization"],
            "type": self.headers["Content-Type"],
            "report_id": json.loads(body)["report_id"],
        }
        answer = json.dumps(received).encode()
        self.send_response(int(wanted))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)  # noqa: T201 - a program; its port is its answer
    server.serve_forever()
