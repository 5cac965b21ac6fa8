"""Small real implementations of all that a makeover is made with, and a ledger of every call that outlives a kill."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deskterior.callbacks import Delivered, Outcome
from deskterior.config import Settings
from deskterior.errors import DeskteriorError
from deskterior.makeover.outfit import Outfit
from deskterior.makeover.prompts import Prompts
from deskterior.providers import Described, Drawn, Found
from deskterior.providers.custom import OwnModel
from deskterior.schemas import Concept, CostItem, Description, Product, ProductDetail
from deskterior.storage import Links, LocalStorage
from runners.drawing import DrawingClient

DESK = "https://photos.example/desk.jpg"
KEYWORDS = ["마우스", "키보드"]
PRODUCT = "https://search.shopping.naver.com/catalog/1"


def png(colour: tuple[int, int, int] = (200, 120, 40)) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (32, 24), colour).save(made, "PNG")
    return made.getvalue()


class Ledger:
    """Lines in a file, on the disk before the next thing happens. `reach` is called with each, and may kill."""

    def __init__(self, path: Path, reach: Callable[[str], None] = lambda _: None) -> None:
        self._path = path
        self._reach = reach

    def write(self, line: str) -> None:
        with self._path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._reach(line)

    def lines(self) -> list[str]:
        return self._path.read_text().splitlines() if self._path.exists() else []

    def count(self, line: str) -> int:
        return self.lines().count(line)


@dataclass
class Faults:
    """What the stand-ins do wrong: an error for each coming call, in turn, None for one that goes well."""

    describe: list[DeskteriorError | Exception | None] = field(default_factory=list)
    render: list[DeskteriorError | Exception | None] = field(default_factory=list)
    shop: list[DeskteriorError | Exception | None] = field(default_factory=list)
    fetch: list[DeskteriorError | Exception | None] = field(default_factory=list)
    keep: list[DeskteriorError | Exception | None] = field(default_factory=list)
    delete: list[DeskteriorError | Exception | None] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    score: float = 0.9
    problems: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """What each kind of call waits for."""

    async def come(self, what: str) -> None:
        if wait := self.before.get(what):
            await wait()
        waiting: list[DeskteriorError | Exception | None] = getattr(self, what)
        if waiting and (error := waiting.pop(0)) is not None:
            raise error


class FakePhotos:
    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger, self._faults = ledger, faults

    async def fetch(self, url: str) -> bytes:
        await self._faults.come("fetch")
        self._ledger.write("fetch answered")
        return png((90, 60, 30))

    async def square(self, data: bytes) -> NDArray[np.uint8]:
        assert data.startswith(b"\x89PNG")
        return np.zeros((224, 224, 3), np.uint8)

    async def scaled(self, data: bytes, longest: int) -> bytes:
        made = io.BytesIO()
        Image.open(io.BytesIO(data)).convert("RGB").save(made, "JPEG")
        return made.getvalue()


class FakeDesk:
    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    async def score(self, square: NDArray[np.uint8]) -> float:
        return self._faults.score


class FakeVision:
    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger, self._faults = ledger, faults

    async def describe(self, photo: bytes, concept: Concept) -> Described:
        assert photo.startswith(b"\xff\xd8")
        self._ledger.write("describe sent")
        await self._faults.come("describe")
        self._ledger.write("describe answered")
        description = Description(prompt="a calm desk", keywords=KEYWORDS, tags=["나무"], mood="차분한")
        return Described(description, CostItem(what="describe", model="gpt-4o", units={"input_tokens": 1.0}, usd=0.01))


class FakeImages:
    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger, self._faults = ledger, faults

    async def draw(self, prompt: str, photo: bytes, concept: Concept) -> Drawn:
        assert photo.startswith(b"\xff\xd8")
        self._ledger.write("render sent")
        await self._faults.come("render")
        self._ledger.write("render answered")
        return Drawn(png(), "image/png", CostItem(what="render", model="painter", units={"pictures": 1.0}, usd=0.04))


class FakeSearch:
    def __init__(self, ledger: Ledger, faults: Faults) -> None:
        self._ledger, self._faults = ledger, faults

    async def find(self, keywords: list[str]) -> Found:
        self._ledger.write("shop sent")
        await self._faults.come("shop")
        self._ledger.write("shop answered")
        detail = ProductDetail(
            title="무소음 마우스",
            price="21990",
            mall="네이버",
            link=PRODUCT,
            image="https://images.example/1.jpg",
            main_category="마우스",
            sub_category="무선마우스",
        )
        return Found([Product(keyword=keyword, details=[detail]) for keyword in keywords], self._faults.problems)


class FakeSender:
    """Delivers, unless an outcome is waiting. `bodies` are those delivered."""

    def __init__(self, ledger: Ledger, faults: Faults, *, enabled: bool = True) -> None:
        self._ledger, self._faults = ledger, faults
        self.enabled = enabled
        self.sent: list[tuple[str, bytes]] = []

    async def attempt(self, message_id: str, body: bytes) -> Outcome:
        self._ledger.write("notify sent")
        await asyncio.sleep(0)
        self.sent.append((message_id, body))
        outcome = self._faults.outcomes.pop(0) if self._faults.outcomes else Delivered()
        self._ledger.write("notify answered")
        return outcome


class FaultyStorage(LocalStorage):
    """A folder, with a ledger and faults."""

    ledger: Ledger
    faults: Faults

    async def put_at(self, key: str, data: bytes) -> None:
        self.ledger.write("keep sent")
        await self.faults.come("keep")
        await super().put_at(key, data)
        self.ledger.write("keep answered")

    async def delete(self, key: str) -> None:
        await self.faults.come("delete")
        await super().delete(key)


async def until(true: Callable[[], Awaitable[object] | object], *, seconds: float = 20) -> None:
    """Wait until `true()` is."""
    async with asyncio.timeout(seconds):
        while not (await answer if isinstance(answer := true(), Awaitable) else answer):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def make_settings(database_url: str, folder: Path, **more: object) -> Settings:
    values: dict[str, object] = {
        "database_url": database_url,
        "storage_dir": folder / "storage",
        "storage_secret": "s" * 32,
        "spend_cap_usd_per_day": 0,
        "executor_ttl_s": 1.0,
        **more,
    }
    return Settings.model_validate(values)


def make_outfit(
    settings: Settings,
    ledger: Ledger,
    faults: Faults,
    *,
    callback: bool = True,
    drawing: DrawingClient | None = None,
) -> tuple[Outfit, FakeSender]:
    storage = FaultyStorage(settings.storage_dir, Links(b"s" * 32, base="https://desk.example"), link_ttl_s=3600)
    storage.ledger, storage.faults = ledger, faults
    sender = FakeSender(ledger, faults, enabled=callback)
    outfit = Outfit(
        photos=FakePhotos(ledger, faults),
        storage=storage,
        desk=FakeDesk(faults),
        desk_threshold=0.5,
        vision=FakeVision(ledger, faults),
        images={"v1": FakeImages(ledger, faults)},
        search=FakeSearch(ledger, faults),
        sender=sender,
        prompts=Prompts.load(),
        own_code={PRODUCT: "M-1"}.get,
        own_model=OwnModel(drawing) if drawing is not None else None,
    )
    return outfit, sender
