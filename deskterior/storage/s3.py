"""Pictures in an S3 bucket, by boto3: AWS itself or anything that speaks its protocol (`S3_ENDPOINT_URL`).

Addresses are presigned, or those of a CDN before the bucket (`S3_PUBLIC_BASE_URL`, without a signature). Encryption and
expiry of objects are the bucket's own settings.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlsplit

import boto3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - the SDK's own: no connection could be made
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from dotenv import dotenv_values

from deskterior.config import Settings
from deskterior.errors import NotFound, StorageFailed
from deskterior.schemas import Upload
from deskterior.storage.keys import PATTERN, Kind, checked, content_type_of, new_key
from deskterior.storage.links import UPLOAD_TTL_S, Links
from deskterior.telemetry.calls import outside_call

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

P = ParamSpec("P")
T = TypeVar("T")

MAX_TTL_S = 7 * 24 * 3600
"""S3 presigns for a week at most."""
_THREADS = 16
_OPERATIONS = {name: name for name in ("put_object", "delete_object", "head_bucket")} | {"_read": "get_object"}
"""What goes over the network, by the function that does it; addresses are signed here."""
_KEY_AT_END = re.compile(rf"/(?P<key>{PATTERN})")
_TIME = "%Y%m%dT%H%M%SZ"


class S3Storage:
    """A bucket. Keys stand behind `prefix` in it.

    With `links`, a picture's address is the service's own short link, which redirects to a presigned one: a presigned
    address is longer than the 255 characters that the flat callback allows.
    """

    def __init__(
        self,
        client: S3Client,
        credentials: Credentials | None,
        bucket: str,
        *,
        prefix: str = "",
        public_base: str = "",
        links: Links | None = None,
        link_ttl_s: float = MAX_TTL_S,
    ) -> None:
        self.links = links
        self._client = client
        self._credentials = credentials
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._public_base = public_base
        self._ttl = link_ttl_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")

    @classmethod
    def of(cls, settings: Settings) -> S3Storage:
        """The bucket that the settings name, with the AWS SDK's own way of finding credentials and region."""
        for name, value in dotenv_values(".env").items():
            # The other settings may stand in `.env`; the SDK looks into the environment alone.
            if name.startswith("AWS_") and value:
                os.environ.setdefault(name, value)
        session = boto3.Session(region_name=os.environ.get("AWS_REGION"))
        client = session.client(
            "s3",
            endpoint_url=settings.s3_endpoint_url or None,
            config=Config(
                signature_version="s3v4",
                connect_timeout=3,
                read_timeout=20,
                retries={"mode": "standard", "total_max_attempts": 3},
                max_pool_connections=_THREADS,
                s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
                # Stores other than AWS's, Google's among them, do not know the newer checksum trailers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        short = settings.callback_format == "flat" and not settings.s3_public_base_url
        return cls(
            client,
            session.get_credentials(),
            settings.s3_bucket,
            prefix=settings.s3_prefix,
            public_base=settings.s3_public_base_url,
            links=Links.of(settings) if short else None,
            link_ttl_s=settings.link_ttl_s,
        )

    async def put(self, data: bytes, *, kind: Kind, content_type: str) -> str:
        """Store under a key of its own, which is returned. Raises StorageFailed."""
        key = new_key(kind, content_type)
        await self.put_at(key, data)
        return key

    async def put_at(self, key: str, data: bytes) -> None:
        """Store under `key`, in place of what was there. Raises StorageFailed."""
        await self._run(
            self._client.put_object,
            Bucket=self._bucket,
            Key=self._name(key),
            Body=data,
            ContentType=content_type_of(key),
            CacheControl="public, max-age=31536000, immutable" if self._public_base else "private, max-age=86400",
        )

    async def get(self, key: str) -> bytes:
        """The picture's bytes. Raises NotFound, StorageFailed."""
        return await self._run(self._read, self._name(key))

    async def delete(self, key: str) -> None:
        """Delete the picture, if it is there. Raises StorageFailed."""
        await self._run(self._client.delete_object, Bucket=self._bucket, Key=self._name(key))

    async def url(self, key: str, ttl: float | None = None) -> str:
        """The CDN's address, or one that is good for `ttl` seconds (`LINK_TTL_S` when None). Raises StorageFailed."""
        ttl = self._ttl if ttl is None else ttl
        if self._public_base:
            return f"{self._public_base}/{self._name(key)}"
        if self.links:
            return self.links.download(checked(key), ttl)
        return await self._run(self._presigned, key, ttl)

    async def presign_upload(self, content_type: str, size: int) -> Upload:
        """Where to PUT a photo of exactly this type and size, and the address that it will then have."""
        key = new_key("uploads", content_type)
        expires_at = datetime.now(UTC) + timedelta(seconds=UPLOAD_TTL_S)
        upload_url = await self._run(
            self._client.generate_presigned_url,
            "put_object",
            Params={
                "Bucket": self._bucket,
                "Key": self._name(key),
                "ContentType": content_type,
                "ContentLength": size,
            },
            ExpiresIn=UPLOAD_TTL_S,
        )
        return Upload(
            upload_url=upload_url,
            headers={"Content-Type": content_type},
            image_url=await self.url(key),
            expires_at=expires_at,
        )

    async def key_of(self, url: str) -> str | None:
        """The key behind an address of ours: the CDN's, or a link or presigned one with a good signature."""
        if self._public_base:
            found = _KEY_AT_END.search(url)
            return found["key"] if found and url == f"{self._public_base}/{self._name(found['key'])}" else None
        if self.links and (key := self.links.key_of(url)):
            return key
        return await self._run(self._presigned_key, url) if "&X-Amz-Signature=" in url else None

    async def open(self, key: str) -> str:
        """The presigned address at which the picture lies, for the minute in which a redirect is followed."""
        return await self._run(self._presigned, key, 60)

    async def check(self) -> str:
        """A sentence for the health check. Raises StorageFailed with the reason."""
        await self._run(self._client.head_bucket, Bucket=self._bucket)
        return "the bucket answers"

    async def aclose(self) -> None:
        """Wait for calls under way, then close the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A call of the SDK in one of our threads, with its errors by name."""
        operation = _OPERATIONS.get(call.__name__)
        try:
            with outside_call("s3", operation) if operation else nullcontext():
                return await asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))
        except RecursionError:
            # The SDK asks a redirecting store for the bucket's region; one that redirects that too sends it in circles.
            raise StorageFailed("The picture store only redirects: check S3_ENDPOINT_URL and AWS_REGION") from None
        except (BotoCoreError, ClientError) as error:
            _raise_named(error)

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)

    def _read(self, name: str) -> bytes:
        # Not `with ... as body`: that gives the stream beneath, whose errors are urllib3's.
        with closing(self._client.get_object(Bucket=self._bucket, Key=name)["Body"]) as body:
            return body.read()

    def _presigned(self, key: str, ttl: float) -> str:
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": self._name(key)},
            ExpiresIn=max(1, min(int(ttl), MAX_TTL_S)),
        )

    def _presigned_key(self, url: str) -> str | None:
        """The key in a presigned GET address, if signing it again with our credentials gives its own signature."""
        try:
            parts = urlsplit(url)
            query = {name: value for name, [value] in parse_qs(parts.query, strict_parsing=True).items()}
            begins = datetime.strptime(query["X-Amz-Date"], _TIME).replace(tzinfo=UTC)
            ends = begins + timedelta(seconds=int(query["X-Amz-Expires"]))
            region = query["X-Amz-Credential"].split("/")[2]
        except (ValueError, KeyError, IndexError, OverflowError):
            return None
        found = re.search(rf"/({PATTERN})$", parts.path)
        if not found or self._credentials is None or ends <= datetime.now(UTC):
            return None
        ours = urlsplit(self._presigned(found[1], 60))
        if (parts.scheme, parts.netloc, parts.path) != (ours.scheme, ours.netloc, ours.path):
            return None
        unsigned, _, signature = url.rpartition("&X-Amz-Signature=")
        request = AWSRequest("GET", unsigned)
        request.context["timestamp"] = query["X-Amz-Date"]
        signer = S3SigV4QueryAuth(self._credentials.get_frozen_credentials(), "s3", region)
        expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        return found[1] if hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")) else None


def _raise_named(error: BotoCoreError | ClientError) -> NoReturn:
    """Raise what an error of the SDK means to us. Its own text names the bucket and the key id: that is for the log."""
    code = ""
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
    match code:
        case "NoSuchKey":
            raise NotFound("This picture is not, or no longer, in the store") from None
        case "NoSuchBucket" | "404":
            why = "The picture store's bucket does not exist: check S3_BUCKET and the region"
        case "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken":
            why = "The picture store does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        case "AccessDenied" | "403" | "AllAccessDisabled":
            why = "The picture store refused access: check the credentials' rights on the bucket"
        case "SlowDown" | "503" | "RequestLimitExceeded" | "ThrottlingException":
            why = "The picture store is busy; try again"
        case "PermanentRedirect" | "301" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException":
            why = "The bucket is in another region: set AWS_REGION"
        case _ if isinstance(error, NoCredentialsError | PartialCredentialsError):
            why = "There are no credentials for the picture store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        case _ if isinstance(error, ConnectionError | HTTPClientError):
            why = "The picture store cannot be reached: check S3_ENDPOINT_URL and the network"
        case _:
            why = "The picture store failed"
    raise StorageFailed(why, internal=f"{type(error).__name__}: {error}") from error
