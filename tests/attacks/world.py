"""A whole world for one attack: the API with its own code for photos, and over against it an Internet in a box.

Names are looked up in the box and every address dialled is answered there, on loopback: the attacker's host at
`ATTACKER`, and at every other address the server that nobody may reach, which counts who does.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpcore
import httpx
import numpy as np
from numpy.typing import NDArray
from starlette.types import Receive, Scope, Send

from deskterior.app import create_app
from deskterior.config import Settings
from deskterior.download import PhotoDownloader
from deskterior.egress import PhotoHosts
from deskterior.gateway.caller import EVERYONE
from deskterior.network import AsyncioNetwork
from deskterior.photos import Photos
from tests.downloads import PHOTO
from tests.websites import Answer, Site, Visit, site

ATTACKER = "8.8.4.4"
INSIDE = "10.0.0.66"
"""What any name that is not in the box leads to."""


class Directory:
    """Names as the system's look-up has them: numbers in any spelling are addresses, localhost is this machine.

    `answers`: what names lead to; several lists are taken one after another, and the last for ever.
    """

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {"photos.test": [[ATTACKER]]} | {name.replace("_", "."): v for name, v in answers.items()}

    async def __call__(self, host: str, port: int) -> list[str]:
        if left := self._answers.get(host):
            return left.pop(0) if len(left) > 1 else left[0]
        if host == "localhost" or host.endswith(".localhost"):
            return ["127.0.0.1", "::1"]
        try:
            return [socket.inet_ntoa(socket.inet_aton(host))]
        except OSError:
            return [INSIDE]


class Exchange(httpcore.AsyncNetworkBackend):
    """Connects the attacker's address to his server, and every other to the one that nobody may reach."""

    def __init__(self, attacker: Site, inside: Site) -> None:
        self._attacker = attacker
        self._inside = inside
        self._network = AsyncioNetwork()
        self.dialled: list[str] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append(host)
        there = self._attacker if host == ATTACKER else self._inside
        return await self._network.connect_tcp("127.0.0.1", there.port, timeout, local_address, socket_options)


class Desk:
    """Finds a desk in everything, and remembers how many pictures it was shown."""

    info = SimpleNamespace(label="attacked")

    def __init__(self) -> None:
        self.shown = 0

    async def score(self, photo: NDArray[np.uint8]) -> float:
        assert photo.shape == (224, 224, 3)
        assert photo.dtype == np.uint8
        self.shown += 1
        return 0.9


@dataclass
class Room:
    """What `POST /classify` needs of the services."""

    settings: Settings
    photos: Photos
    desk: Desk
    desk_threshold: float = 0.5


@dataclass
class World:
    api: httpx.AsyncClient
    attacker: Site
    inside: Site
    exchange: Exchange
    desk: Desk
    problems: list[dict[str, Any]] = field(default_factory=list)

    async def classify(self, url: str) -> str:
        """The wire's answer, as the list of attacks writes it: `422 photo-url-forbidden`, or `200`."""
        answer = await self.api.post("/classify", json={"initial_image_url": url})
        if answer.status_code == 200:
            assert answer.json() == {"initial_image_url": url, "classify": True}
            return "200"
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == answer.status_code
        self.problems.append(problem)
        return f"{answer.status_code} {problem['type'].removeprefix('/problems/')}"

    @property
    def reached_inside(self) -> bool:
        return self.inside.connections > 0 or any(address != ATTACKER for address in self.exchange.dialled)


async def treasure(visit: Visit) -> None:
    """The server that nobody may reach would even have a photo."""
    await visit.answer(PHOTO)


@asynccontextmanager
async def world(
    answer: Answer = treasure,
    *,
    allowed: Iterable[str] = (),
    names: Directory | None = None,
    max_bytes: int = 20 * 1024 * 1024,
    timeout_s: float = 30.0,
    production: bool = False,
) -> AsyncIterator[World]:
    """A world in which the attacker's host gives `answer`. By default the policy that allows most: any public host."""
    settings = Settings.model_validate({"photo_allowed_hosts": frozenset(allowed), "photo_max_bytes": max_bytes})
    hosts = PhotoHosts(allowed, development=not production)
    async with site(answer) as attacker, site(treasure) as inside:
        exchange = Exchange(attacker, inside)
        downloader = PhotoDownloader(
            hosts,
            max_bytes=max_bytes,
            timeout_s=timeout_s,
            connections=8,
            resolve=names or Directory(),
            network=exchange,
        )
        photos = Photos(settings, downloader=downloader)
        app = create_app()
        desk = Desk()
        app.state.services = Room(settings, photos, desk)

        async def let_in(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": {"request_id": "attack", "caller": EVERYONE}}, receive, send)

        try:
            transport = httpx.ASGITransport(let_in, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as api:
                yield World(api, attacker, inside, exchange, desk)
        finally:
            await photos.aclose()
