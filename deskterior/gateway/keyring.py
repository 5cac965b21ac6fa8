"""Where the API keys come from: the setting itself, or a file that may change while the service runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from deskterior.config import ROOT, SettingsError
from deskterior.gateway.caller import Caller
from deskterior.gateway.keys import Keys, KeysError, read

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""How often a file is looked at, at most; a revoked key is good for so long."""
REMIND_S = 60.0
"""How often a file that cannot be used is complained about."""
LARGEST = 8 * 1024 * 1024


class Keyring:
    """Opened by `of`.

    Args:
        keys: those that are good now.
        path: the file that they are from, if it is one, and `content`, what was in it.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        keys: Keys,
        path: Path | None = None,
        content: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._path = path
        self._content = content
        self._clock = clock
        self._look_at = clock() + LOOK_S
        self._looking = False
        self._remind_at = 0.0
        self._wrong = ""

    @classmethod
    def of(cls, setting: str, clock: Callable[[], float] = time.monotonic) -> Keyring | None:
        """The keyring of a value of `API_KEYS`; None where it is empty.

        Raises:
            SettingsError: it cannot be used, or holds no key.
        """
        setting = setting.strip()
        if not setting:
            return None
        path, content = None, setting.encode()
        try:
            if setting.startswith("@"):
                path = ROOT / setting[1:]
                content = _content(path)
            entries = read(_text(content))
        except KeysError as error:
            where = f": {path} " if path else " "
            raise SettingsError(f"API_KEYS{where}{error}") from None
        if not entries:
            raise SettingsError(
                "API_KEYS holds no key, so nobody could come in; `python -m deskterior.keys make` makes one"
            )
        return cls(Keys(entries), path, content, clock)

    async def find(self, text: str) -> Caller | None:
        """As `Keys.find`, by the file as it is now, give or take `LOOK_S`."""
        if self._path is not None and self._clock() >= self._look_at and not self._looking:
            # Others go on with the keys as they were, for the moment that this takes.
            self._looking = True
            try:
                await self._look(self._path)
            finally:
                self._looking, self._look_at = False, self._clock() + LOOK_S
        return self._keys.find(text)

    async def _look(self, path: Path) -> None:
        """Take the keys of a file that has changed. One that cannot be used changes nothing, and is told of."""
        try:
            # The whole content: times and sizes can stay the same over a change.
            content = await asyncio.to_thread(_content, path)
            if content == self._content and not self._wrong:
                return
            entries = read(_text(content))
        except KeysError as error:
            if self._wrong != str(error) or self._clock() >= self._remind_at:
                self._wrong, self._remind_at = str(error), self._clock() + REMIND_S
                log.error(  # noqa: TRY400 - the reason says it all
                    "api_keys.unusable", path=str(path), reason=self._wrong, keys_kept=len(self._keys)
                )
            return
        self._keys, self._content, self._wrong = Keys(entries), content, ""
        say = log.info if entries else log.error
        say("api_keys.read", path=str(path), keys=len(entries))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise KeysError(f"cannot be read: {error.strerror or type(error).__name__}") from None
    if len(content) > LARGEST:
        raise KeysError(f"is over {LARGEST} bytes")
    return content


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise KeysError("is no text in UTF-8") from None
