"""The service's own links to pictures: signed, expiring, short. `routers/files.py` answers them.

The signature covers the method, the key and the end of validity, for an upload also the size; the key's ending stands
for the type. It does not cover the host, which a proxy may change.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from deskterior.config import Settings, SettingsError
from deskterior.errors import Forbidden
from deskterior.storage.keys import PATTERN

UPLOAD_TTL_S = 15 * 60
"""How long an upload may be begun."""

_FILE_PATH = re.compile(rf"(?P<root>.*)/files/(?P<key>{PATTERN})")
_EXPIRES = re.compile(r"[0-9]{1,12}")
_SECRET_FILE = ".link-secret"  # noqa: S105 - its name, not the secret

request_base: ContextVar[str] = ContextVar("request_base", default="")
"""The address that the request being answered, or the one that began the job, came to. Looked at only in development
and without `PUBLIC_BASE_URL`: the Host header is the client's to forge."""


class Links:
    """Makes and checks links. `base` beats the request's own address; without either it is this machine's `port`."""

    def __init__(
        self,
        secret: bytes,
        *,
        base: str = "",
        port: int = 8080,
        trust_host: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._base = base
        self._port = port
        self._trust_host = trust_host
        self._clock = clock

    @classmethod
    def of(cls, settings: Settings) -> Links:
        """The links of this service. Makes and keeps a secret in `STORAGE_DIR` when none is set.

        Raises:
            SettingsError: `STORAGE_DIR` cannot hold the secret.
        """
        given = settings.storage_secret.get_secret_value().encode()
        return cls(
            given or stored_secret(settings.storage_dir),
            base=settings.public_base_url,
            port=settings.port,
            trust_host=settings.env == "development",
        )

    def download(self, key: str, ttl: float) -> str:
        """A link that is good for `ttl` seconds, up to a tenth longer: asked for again it is the same for a while."""
        step = max(1.0, ttl // 10)
        expires = int(math.ceil((self._clock() + ttl) / step) * step)
        return f"{self._root()}/files/{key}?expires={expires}&signature={self._sign('GET', key, expires)}"

    def upload(self, key: str, size: int, ttl: float = UPLOAD_TTL_S) -> tuple[str, int]:
        """A link to put `size` bytes at `key`, and the second (Unix time) at which it ends."""
        expires = int(self._clock() + ttl)
        signature = self._sign("PUT", key, expires, size)
        return f"{self._root()}/files/{key}?size={size}&expires={expires}&signature={signature}", expires

    def check_download(self, key: str, expires: str, signature: str) -> None:
        """Raises Forbidden for a link that this service did not make, or that has expired."""
        self._check(expires, signature, "GET", key, expires)

    def check_upload(self, key: str, size: str, expires: str, signature: str) -> None:
        """Raises Forbidden for a link that this service did not make, or that has expired."""
        self._check(expires, signature, "PUT", key, expires, size)

    def key_of(self, url: str) -> str | None:
        """The key behind a download link of ours that is still good; None for any other address.

        With a base set, its host and path must be there too. In development they may be any: the links were made for
        whatever address a request came to, and the signature alone says that the caller was given this picture.
        """
        try:
            parts = urlsplit(url)
            origin = (parts.scheme, parts.hostname, parts.port)
            query = {name: value for name, [value] in parse_qs(parts.query, strict_parsing=True).items()}
            found = _FILE_PATH.fullmatch(parts.path)
        except ValueError:
            return None
        if found is None or sorted(query) != ["expires", "signature"]:
            return None
        if self._base or not self._trust_host:
            root = urlsplit(self._root())
            if (found["root"], *origin) != (root.path, root.scheme, root.hostname, root.port):
                return None
        try:
            self.check_download(found["key"], query["expires"], query["signature"])
        except Forbidden:
            return None
        return found["key"]

    def _root(self) -> str:
        return self._base or (self._trust_host and request_base.get()) or f"http://127.0.0.1:{self._port}"

    def _sign(self, *parts: str | int) -> str:
        # Keys and numbers hold no line break, so no two lists of parts make the same text.
        text = "\n".join(map(str, parts)).encode("utf-8", "surrogatepass")
        digest = hmac.new(self._secret, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _check(self, expires: str, signature: str, *signed: str) -> None:
        if not hmac.compare_digest(self._sign(*signed).encode(), signature.encode("utf-8", "replace")):
            raise Forbidden("The link's signature is missing or wrong; ask for a new link")
        if not _EXPIRES.fullmatch(expires) or int(expires) <= self._clock():
            raise Forbidden("The link has expired; ask for a new one")


def stored_secret(folder: Path) -> bytes:
    """The secret kept in `folder`, made when there is none. Any number of processes that start at once get the same.

    Raises:
        SettingsError: the folder cannot be written, or the secret in it cannot be read.
    """
    path = folder / _SECRET_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Written aside and linked: the name appears with the whole secret in it, and only the first can give it.
            draft = folder / f"{_SECRET_FILE}.{secrets.token_hex(8)}"
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())
            try:
                with suppress(FileExistsError):
                    os.link(draft, path)
            finally:
                draft.unlink()
        secret = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(
            f"STORAGE_DIR: no secret for links can be kept there ({error.strerror}); mend that, or set STORAGE_SECRET"
        ) from None
    if len(secret) < 32:
        raise SettingsError(f"STORAGE_DIR: {_SECRET_FILE} in it is damaged; delete that file to have a new one made")
    return secret
