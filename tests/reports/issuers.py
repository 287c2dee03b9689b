"""A token issuer on loopback: keys, metadata and a key set that tests can change, and a count of what was fetched."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

AUDIENCE = "https://collector.example.org:8642"
METADATA = "/.well-known/openid-configuration"
PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey


@cache
def rsa_key(_name: str = "one", bits: int = 2048) -> RSAPrivateKey:
    """A key of this name; made once a run."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key(_name: str = "one", curve: type[ec.EllipticCurve] = ec.SECP256R1) -> EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: PrivateKey, key_id: str | None, **members: object) -> dict[str, Any]:
    """The public key as a row of a key set."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    row: dict[str, Any] = algorithm.to_jwk(key.public_key(), as_dict=True)  # type: ignore[attr-defined, arg-type] # both
    row.pop("key_ops", None)
    return {**row, **({"kid": key_id} if key_id else {}), **members}


class Issuer:
    """`answers` by path: JSON, bytes, or a status. `fetched` lists the paths that were asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fetched: list[str] = []
        self.answers: dict[str, Any] = {}
        self.answers[METADATA] = {"issuer": url, "jwks_uri": f"{url}/jwks"}
        self.publish(jwk(rsa_key(), "r1"), jwk(ec_key(), "e1"))

    def publish(self, *rows: dict[str, Any]) -> None:
        self.answers["/jwks"] = {"keys": list(rows)}

    def token(self, key: PrivateKey | None = None, key_id: str | None = "r1", **claims: object) -> str:
        key = key or rsa_key()
        now = int(time.time())
        made = {"iss": self.url, "sub": "pilot", "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 600, **claims}
        algorithm = "RS256" if isinstance(key, RSAPrivateKey) else "ES256"
        return jwt.encode(made, key, algorithm, headers={"kid": key_id} if key_id else {})


@contextmanager
def issuing() -> Iterator[Issuer]:
    """An issuer that answers until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetched.append(self.path)
            answer = issuer.answers.get(self.path, 404)
            status, body = (answer, b"") if isinstance(answer, int) else (200, answer)
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", f"{issuer.url}/jwks")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
