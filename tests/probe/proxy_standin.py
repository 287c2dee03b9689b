"""A small HTTP proxy: CONNECT and plain requests to 127.0.0.1 and localhost. Run as a program it prints its port.

First argument: "open"; "closed" refuses every target, as Squid does for ports that its rules do not name; or
USER:PASSWORD, without which it answers 407. Second argument: a file that gets a line for each request served.
"""

import base64
import socket
import socketserver
import sys
import threading
from pathlib import Path

REFUSED = b"HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\nContent-Length: 0\r\n\r\n"
WHO = b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'


def head_of(client: socket.socket) -> bytes:
    """What a client sends up to the blank line, with what came along behind it."""
    head = b""
    while b"\r\n\r\n" not in head and (piece := client.recv(65536)):
        head += piece
    return head


def copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until one side ends, then end the other."""
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side went away: so do we


class Handler(socketserver.BaseRequestHandler):
    """One connection of a client."""

    def handle(self) -> None:
        rule, notes = sys.argv[1], Path(sys.argv[2])
        head = head_of(self.request)
        method, target, *_ = head.split(b" ", 2)
        expected = b"Basic " + base64.b64encode(rule.encode())
        if rule == "closed":
            return self.request.sendall(REFUSED)
        if ":" in rule and expected not in head:
            return self.request.sendall(WHO)
        place = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = place.decode().rpartition(":")
        with notes.open("a") as stream:
            stream.write(f"{method.decode()} {place.decode()}\n")
        with socket.create_connection((host, int(port)), 10) as server:
            if method == b"CONNECT":
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                server.sendall(head)
            back = threading.Thread(target=copy, args=(server, self.request), daemon=True)
            back.start()
            copy(self.request, server)
            back.join()
        return None


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that go away."""


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)  # noqa: T201 - a program; its port is its answer
    server.serve_forever()
