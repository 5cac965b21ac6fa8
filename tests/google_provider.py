"""Stands in for Google's Terraform provider: it knows the names and types of arguments, and nothing lies behind it.

With it `terraform validate` runs where no provider can be downloaded. Terraform asks a provider for its schema by gRPC
(protocol version 5); the few messages of that are written here by hand. The schema is `google_provider.json`: the types
that deploy/gcp uses, as CDKTF's bindings of that provider (cdktf-cdktf-provider-google 16.12.1) declare them. It does
not know which values an argument may have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

SCHEMA = Path(__file__).with_name("google_provider.json")
ADDRESS = "registry.terraform.io/hashicorp/google"
_SINGLE, _LIST = 1, 2
"""How blocks nest: whether there may be one of a name, or several."""

Block = Mapping[str, Any]


@contextmanager
def google_provider() -> Iterator[str]:
    """A running provider; gives the value of TF_REATTACH_PROVIDERS that makes Terraform use it."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Provider(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        where = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
        yield json.dumps(
            {ADDRESS: {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True, "Addr": where}}
        )
    finally:
        server.stop(None).wait()


class _Provider(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is untyped
    """Answers the calls of `terraform validate`. Nothing it is asked to validate is wrong but by its schema."""

    def __init__(self) -> None:
        self._schema = _schemas(json.loads(SCHEMA.read_text()))

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._answer(details.method.rpartition("/")[2]))

    def _answer(self, method: str) -> Any:
        match method:
            case "GetSchema":
                return lambda _request, _context: self._schema
            case "PrepareProviderConfig":  # the same field holds the configuration on the way back
                return lambda request, _context: request
            case _:
                return lambda _request, _context: b""


def _schemas(known: Mapping[str, Any]) -> bytes:
    provider = {
        "attrs": {name: {"type": "string"} for name in ("project", "region", "zone")}
        | {"default_labels": {"type": ["map", "string"]}},
        "blocks": {},
    }
    answer = _message(1, _schema(provider))
    for field, kind in ((2, "resource"), (3, "data")):
        for name, block in known[kind].items():
            answer += _message(field, _text(1, name) + _message(2, _schema(block)))
    return answer


def _schema(block: Block) -> bytes:
    return _number(1, 0) + _message(2, _block(block))


def _block(block: Block) -> bytes:
    content = b""
    for name, attribute in block["attrs"].items():
        computed = attribute.get("computed", False)
        required = attribute.get("required", False)
        content += _message(
            2,
            _text(1, name)
            + _text(2, json.dumps(attribute["type"]))
            + _number(4, required)
            + _number(5, not required and not computed)
            + _number(6, computed or (name == "id" and not required)),
        )
    for name, nested in block["blocks"].items():
        single = nested["single"]
        content += _message(
            3,
            _text(1, name)
            + _message(2, _block(nested))
            + _number(3, _SINGLE if name == "timeouts" else _LIST)
            + _number(4, nested["required"])
            + _number(5, single and name != "timeouts"),
        )
    return content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(int(value))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())
