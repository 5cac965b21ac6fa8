"""An issuer of tokens on loopback: its keys at an address, and tokens signed by them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

AUDIENCE = "deskterior"


@cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    """A key; another one for another `number`."""
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def public(private: Any, kid: str | None, algorithm: str) -> dict[str, Any]:
    """A private key's public half, as a JWKS has it."""
    jwk: dict[str, Any] = get_default_algorithms()[algorithm].to_jwk(private.public_key(), as_dict=True)
    return jwk | {"alg": algorithm, "use": "sig"} | ({"kid": kid} if kid is not None else {})


@dataclass
class Issuer:
    """What it answers can be changed while it runs; `asked` counts."""

    url: str = ""
    name: str = "https://issuer.example/"
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public(rsa_key(), "one", "RS256")])
    body: bytes | None = None
    status: int = 200
    location: str = ""
    asked: int = 0
    gate: threading.Event = field(default_factory=threading.Event)

    def token(
        self, key: Any = None, algorithm: str = "RS256", headers: dict[str, Any] | None = None, /, **claims: Any
    ) -> str:
        """A good token, but for what is given; a claim or header that is `...` is left out."""
        now = int(time.time())
        said = {"iss": self.name, "aud": AUDIENCE, "sub": "someone", "iat": now, "exp": now + 600, "scope": "classify"}
        said |= claims
        head = {"kid": "one"} | (headers or {})
        return jwt.encode(
            {name: value for name, value in said.items() if value is not ...},
            key if key is not None else rsa_key(),
            algorithm,
            {name: value for name, value in head.items() if value is not ...},
        )


@contextmanager
def issuer() -> Iterator[Issuer]:
    """Serve one until the block ends."""
    made = Issuer()
    made.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked += 1
            made.gate.wait()
            body = json.dumps({"keys": made.keys}).encode() if made.body is None else made.body
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    try:
        yield made
    finally:
        made.gate.set()
        server.shutdown()
        server.server_close()
