"""A stand-in for S3 on loopback: moto's server, empty at its start.

moto keeps the buckets of all its servers in one place of the process: one that another test left would be found here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "pictures"
SECRET = "secret/with+signs"


def use_credentials(patch: pytest.MonkeyPatch, folder: Path, secret: str = SECRET) -> None:
    """The AWS SDK finds these, and none of this machine's."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        patch.setenv(name, value)


@contextmanager
def s3_server() -> Iterator[tuple[str, ThreadedMotoServer]]:
    """Its address, and the server, that a test may stop before its end."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        httpx.post(f"{address}/moto-api/reset", timeout=10, trust_env=False).raise_for_status()
        yield address, server
    finally:
        server.stop()


def make_bucket(endpoint: str) -> None:
    with closing(boto3.client("s3", endpoint_url=endpoint)) as s3:
        s3.create_bucket(Bucket=BUCKET)
