"""The models of the outside services as data: prices, retirement dates, sizes. Which class serves one: selection.py.

`models.toml` beside this file holds the data. Costs are in USD and come from the usage that the provider tells; where
it tells none, from an assumption on the high side, so that the day's spending cap is not passed unseen.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import urlsplit

from openai.types import CompletionUsage
from openai.types.images_response import Usage as ImageUsage
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deskterior.config import Settings, SettingsError
from deskterior.schemas import CostItem

DATA = Path(__file__).with_name("models.toml")
SOON_DAYS = 60

_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_SIZE = re.compile(r"\d+x\d+")
_MILLION = 1_000_000
# What a description is counted as when the answer tells no usage: a photo, the instructions and a full answer.
_ASSUMED_INPUT, _ASSUMED_OUTPUT = 4_000, 2_000


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Data):
    name: str
    retires: date | None = None
    replacement: str | None = None


E = TypeVar("E", bound=Entry)


class VisionEntry(Entry):
    """A model that looks. Prices in USD for a million tokens."""

    input: float = Field(ge=0)
    cached_input: float = Field(ge=0)
    output: float = Field(ge=0)

    def cost(self, usage: CompletionUsage | None) -> CostItem:
        """What a completion cost; an assumption when it told no usage."""
        output = _count(usage, "completion_tokens")
        read = _count(usage, "prompt_tokens")
        cached = min(read, _count(getattr(usage, "prompt_tokens_details", None), "cached_tokens"))
        told = read > 0
        if not told:
            read, cached, output = _ASSUMED_INPUT, 0, max(output, _ASSUMED_OUTPUT)
        units = {"input_tokens": float(read), "cached_input_tokens": float(cached), "output_tokens": float(output)}
        if not told:
            units["assumed"] = 1.0
        usd = ((read - cached) * self.input + cached * self.cached_input + output * self.output) / _MILLION
        return CostItem(what="describe", model=self.name, units=units, usd=round(usd, 6))


class TokenPrices(_Data):
    """USD for a million tokens."""

    text_input: float = Field(ge=0)
    image_input: float = Field(ge=0)
    output: float = Field(ge=0)


class ImageEntry(Entry):
    """A model that draws, priced by tokens or by the picture."""

    adapter: str
    sizes: list[str]
    any_size: bool = False
    """Any WIDTHxHEIGHT in steps of 16, from 1:3 to 3:1."""
    qualities: list[str]
    tokens: TokenPrices | None = None
    assumed: dict[str, float] = {}
    """USD for a picture whose usage is not known, by quality."""
    pictures: dict[str, float] = {}
    """USD for a picture, by `"quality size"`."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.tokens:
            missing = [quality for quality in self.qualities if quality not in self.assumed]
        else:
            missing = [f"{q} {s}" for q in self.qualities for s in self.sizes if f"{q} {s}" not in self.pictures]
        if missing:
            raise ValueError(f"{self.name} has no price for {', '.join(missing)}")
        return self

    def cost(self, quality: str, size: str, usage: ImageUsage | None) -> CostItem:
        """What one picture cost. `usage` is None where the provider told none."""
        if self.tokens and (output := _count(usage, "output_tokens")):
            return self._by_tokens(self.tokens, usage, output)
        units = {"pictures": 1.0}
        if self.tokens:
            units["assumed"] = 1.0
            usd = self.assumed.get(quality, max(self.assumed.values())) * self._larger(size)
        else:
            usd = self.pictures.get(f"{quality} {size}", max(self.pictures.values()))
        return CostItem(what="render", model=self.name, units=units, usd=usd)

    def _larger(self, size: str) -> float:
        """How many times larger than its largest standard size a size of one's own is: tokens grow with the area."""
        if size in self.sizes or not _SIZE.fullmatch(size):
            return 1.0
        return max(1.0, _area(size) / max(_area(known) for known in self.sizes))

    def _by_tokens(self, prices: TokenPrices, usage: ImageUsage | None, output: int) -> CostItem:
        details = getattr(usage, "input_tokens_details", None)
        text = _count(details, "text_tokens")
        # What is not said to be text is counted at the dearer price.
        image = max(_count(usage, "input_tokens") - text, _count(details, "image_tokens"))
        usd = (text * prices.text_input + image * prices.image_input + output * prices.output) / _MILLION
        units = {
            "pictures": 1.0,
            "text_input_tokens": float(text),
            "image_input_tokens": float(image),
            "output_tokens": float(output),
        }
        return CostItem(what="render", model=self.name, units=units, usd=round(usd, 6))


class Family(_Data):
    prefix: str
    counted_as: str


class EndingService(_Data):
    name: str
    host: str
    retires: date
    mend: str


class Models(_Data):
    """The data file. `vision_model` and `image_model` look a name up as the settings spell it."""

    as_of: date
    vision: list[VisionEntry]
    image: list[ImageEntry]
    family: list[Family] = []
    service: list[EndingService] = []

    @classmethod
    def load(cls, path: Path = DATA) -> Self:
        """Read the data file.

        Raises:
            SettingsError: the file is missing or wrong; says where.
        """
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path.name}: cannot be read: {error}") from error
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            raise SettingsError(f"{path.name}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error

    def vision_model(self, name: str) -> tuple[VisionEntry, bool]:
        """The entry of a model that looks, and whether it is listed. One that is not is counted as the dearest."""
        if found := _named(self.vision, name):
            return found.model_copy(update={"name": name}), True
        dearest = max(self.vision, key=lambda entry: (entry.output, entry.input))
        return dearest.model_copy(update={"name": name, "retires": None, "replacement": None}), False

    def image_model(self, name: str) -> tuple[ImageEntry, bool]:
        """The entry of a model that draws, and whether it is listed. One of a known family is counted as its dearest.

        Raises:
            SettingsError: neither the model nor its family is known, so there is no class to draw with.
        """
        if found := _named(self.image, name):
            return found.model_copy(update={"name": name}), True
        for family in self.family:
            if name.startswith(family.prefix) and (counted := _named(self.image, family.counted_as)):
                return counted.model_copy(update={"name": name, "retires": None, "replacement": None}), False
        known = ", ".join(entry.name for entry in self.image)
        raise SettingsError(f"IMAGE_MODEL: {name} is in no family of {DATA.name}; known are {known}")


@lru_cache(maxsize=1)
def known_models() -> Models:
    """The data file of this installation, read once. Raises as `Models.load`."""
    return Models.load()


def check_models(settings: Settings, today: date, models: Models | None = None) -> list[str]:
    """What an operator should know of the configured models at start, a sentence each; empty when all is well.

    Raises:
        SettingsError: `IMAGE_MODEL` is of no known family.
    """
    models = models or known_models()
    vision, vision_listed = models.vision_model(settings.vision_model)
    image, image_listed = models.image_model(settings.image_model)
    notices = []
    for setting, entry, listed in (("VISION_MODEL", vision, vision_listed), ("IMAGE_MODEL", image, image_listed)):
        if not listed:
            notices.append(
                f"{setting}: {entry.name} is not listed in {DATA.name}, so it is counted at the dearest price known "
                "for its kind. Add it there with its prices."
            )
        if entry.retires and at_openai(settings.openai_url):
            if notice := retired(setting, entry, today):
                notices.append(notice)
            elif (days := (entry.retires - today).days) <= SOON_DAYS:
                notices.append(
                    f"{setting}: OpenAI retires {entry.name} on {entry.retires}, in {days} days. "
                    f"Try {entry.replacement or 'another model'} before then."
                )
    host = urlsplit(settings.naver_url).hostname
    notices += [
        f"{service.name} at {service.host} ended on {service.retires}. Products may stay empty: {service.mend}."
        for service in models.service
        if service.host == host and today >= service.retires
    ]
    return notices


def retired(setting: str, entry: Entry, today: date) -> str | None:
    """The sentence for a model that OpenAI has shut, None for one it serves."""
    if entry.retires is None or today < entry.retires:
        return None
    return (
        f"{setting}: OpenAI retired {entry.name} on {entry.retires}. "
        f"Set {setting}={entry.replacement or 'a model that it serves'}, or OPENAI_BASE_URL to an endpoint that still "
        "serves it."
    )


def at_openai(url: str) -> bool:
    """Whether the address is OpenAI's own: `api.openai.com` or one of its regions."""
    host = urlsplit(url).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def _named(entries: list[E], name: str) -> E | None:
    by_name = {entry.name: entry for entry in entries}
    return by_name.get(name) or by_name.get(_DATED.sub("", name))


def _area(size: str) -> int:
    width, height = size.split("x")
    return int(width) * int(height)


def _count(usage: object, field: str) -> int:
    """A token count as the provider told it. The SDK checks neither presence nor type, so both may be wrong."""
    tokens = getattr(usage, field, None)
    return tokens if isinstance(tokens, int) and tokens > 0 else 0
