"""The rights in `deploy/aws`: what the storage does is allowed, and nothing else is."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import httpx
import pytest
from pydantic import BaseModel, ConfigDict, Field

from deskterior.config import ROOT, Settings
from deskterior.errors import NotFound
from deskterior.storage import key_for
from deskterior.storage.s3 import MAX_TTL_S, S3Storage
from tests.buckets import BUCKET, make_bucket, s3_server, use_credentials

FOLDER = ROOT / "deploy" / "aws"
PREFIX = "desk/"
PICTURE = f"arn:aws:s3:::{BUCKET}/{PREFIX}results/2026/01/01/{'0' * 32}.png"
RIGHTS = {
    "HeadBucket": "s3:ListBucket",
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "DeleteObject": "s3:DeleteObject",
}
"""What AWS asks for each operation, by its service authorization reference."""
OTHERS = {
    "s3:BypassGovernanceRetention",
    "s3:DeleteObjectVersion",
    "s3:GetObjectVersion",
    "s3:ListAllMyBuckets",
    "s3:ObjectOwnerOverrideToBucketOwner",
    "s3:PutBucketAcl",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectVersionAcl",
    "iam:PassRole",
    "sts:AssumeRole",
    "kms:Decrypt",
}
"""Rights that no operation of the SDK is named for."""


class Statement(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sid: str = Field(alias="Sid")
    effect: str = Field(alias="Effect", pattern="Allow|Deny")
    action: list[str] | str = Field(alias="Action")
    resource: list[str] | str = Field(alias="Resource")
    principal: str | None = Field(default=None, alias="Principal")
    condition: dict[str, dict[str, str | list[str]]] = Field(default={}, alias="Condition")

    @property
    def actions(self) -> list[str]:
        return [self.action] if isinstance(self.action, str) else self.action

    def covers(self, action: str, resource: str, context: dict[str, str]) -> bool:
        resources = [self.resource] if isinstance(self.resource, str) else self.resource
        return (
            any(fnmatchcase(action.lower(), each.lower()) for each in self.actions)
            and any(fnmatchcase(resource, each) for each in resources)
            and all(_holds(kind, tests, context) for kind, tests in self.condition.items())
        )


def _holds(kind: str, tests: dict[str, str | list[str]], context: dict[str, str]) -> bool:
    assert kind in {"Bool", "StringEquals"}, f"this matcher does not know {kind}"
    return all(context.get(key) in ([wanted] if isinstance(wanted, str) else wanted) for key, wanted in tests.items())


def text_of(name: str) -> str:
    return (FOLDER / name).read_text().replace("@BUCKET@", BUCKET).replace("@PREFIX@", PREFIX)


def statements(name: str) -> list[Statement]:
    return [Statement.model_validate(each) for each in json.loads(text_of(name))["Statement"]]


IAM, DOOR = statements("iam-policy.json"), statements("bucket-policy.json")


def allowed(action: str, resource: str, *, tls: bool = True, acl: str = "") -> bool:
    """As AWS decides: one deny wins, and what nothing allows is denied."""
    context = {"aws:SecureTransport": str(tls).lower()} | ({"s3:x-amz-acl": acl} if acl else {})
    hit = {each.effect for each in [*IAM, *DOOR] if each.covers(action, resource, context)}
    return "Allow" in hit and "Deny" not in hit


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A stand-in for S3 with the bucket in it."""
    use_credentials(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    with s3_server() as (address, _):
        make_bucket(address)
        yield address


async def _everything(storage: S3Storage) -> None:
    """Every method of the storage, a picture that is not there included."""
    key = await storage.put(b"picture", kind="results", content_type="image/png")
    await storage.put_at(key_for("inputs", "task", "image/jpeg"), b"photo")
    assert await storage.get(key) == b"picture"
    url = await storage.url(key)
    assert await storage.key_of(url) == key
    await storage.open(key)
    upload = await storage.presign_upload("image/webp", 5)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).status_code == 200
        assert (await client.put(upload.upload_url, content=b"12345", headers=upload.headers)).status_code == 200
    assert await storage.check()
    await storage.delete(key)
    with pytest.raises(NotFound):
        await storage.get(key)


def test_the_whole_surface_of_the_storage_is_tried() -> None:
    methods = {name for name, method in vars(S3Storage).items() if inspect.iscoroutinefunction(method)}
    tried = set(re.findall(r"storage\.(\w+)\(", inspect.getsource(_everything)))
    assert {name for name in methods if not name.startswith("_")} == tried | {"aclose"}


async def test_what_the_storage_does_is_what_the_policy_allows(endpoint: str) -> None:
    settings = Settings(_env_file=None, storage="s3", s3_bucket=BUCKET, s3_prefix=PREFIX, s3_endpoint_url=endpoint)
    storage = S3Storage.of(settings)
    called: set[tuple[str, str]] = set()

    def note(params: dict[str, Any], model: Any, **_: object) -> None:
        where = f"arn:aws:s3:::{params['Bucket']}" + (f"/{params['Key']}" if "Key" in params else "")
        called.add((RIGHTS[model.name], where))

    storage._client.meta.events.register("provide-client-params.s3", note)  # presigned calls pass here too
    try:
        await _everything(storage)
    finally:
        await storage.aclose()
    assert {right for right, _ in called} == set(RIGHTS.values()), "the test must reach every call there is"
    for right, where in called:
        assert allowed(right, where), (right, where)
        assert not allowed(right, where, tls=False), "only by TLS"
    granted = {action for each in IAM for action in each.actions}
    assert granted == {right for right, _ in called}, "nothing is allowed that is not used"


def test_every_other_right_on_the_pictures_the_bucket_and_elsewhere_is_denied() -> None:
    operations = botocore.session.get_session().get_service_model("s3").operation_names
    rights = {f"s3:{name}" for name in operations} | OTHERS
    assert len(rights) > 100
    objects = {"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}
    bucket = f"arn:aws:s3:::{BUCKET}"
    assert {right for right in rights | set(RIGHTS.values()) if allowed(right, PICTURE)} == objects
    assert {right for right in rights | set(RIGHTS.values()) if allowed(right, bucket)} == {"s3:ListBucket"}
    for elsewhere in (
        f"{bucket}/x.png",
        f"{bucket}/{PREFIX}x.png",
        f"{bucket}/{PREFIX}resultsx/y.png",
        f"{bucket}/results/y.png",
        f"{bucket}-2/{PREFIX}results/y.png",
        f"{bucket}-2",
        "*",
    ):
        assert not [right for right in rights | set(RIGHTS.values()) if allowed(right, elsewhere)], elsewhere


def test_no_right_is_given_by_a_star() -> None:
    for each in IAM:
        assert each.effect == "Allow"
        assert not each.condition
        assert not any("*" in action for action in each.actions)
        resources = [each.resource] if isinstance(each.resource, str) else each.resource
        assert all(one.startswith(f"arn:aws:s3:::{BUCKET}") and "*" not in one[:-1] for one in resources)


def test_the_bucket_gives_nothing_and_refuses_plain_http_and_public_acls() -> None:
    assert {each.effect for each in DOOR} == {"Deny"}
    assert {each.principal for each in DOOR} == {"*"}
    for acl in ("public-read", "public-read-write", "authenticated-read"):
        assert not allowed("s3:PutObject", PICTURE, acl=acl)
    assert allowed("s3:PutObject", PICTURE, acl="private")
    assert allowed("s3:PutObject", PICTURE)
    assert not allowed("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", tls=False)
    assert set(json.loads(text_of("public-access-block.json")).values()) == {True}


def test_uploads_expire_after_their_links_and_no_other_picture_does(endpoint: str) -> None:
    with closing(boto3.client("s3", endpoint_url=endpoint)) as s3:
        rules = json.loads(text_of("lifecycle.json"))
        s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=rules)
        (rule,) = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert (rule["Status"], rule["Filter"]) == ("Enabled", {"Prefix": f"{PREFIX}uploads/"})
    assert rule["Expiration"]["Days"] * 24 * 3600 > MAX_TTL_S
