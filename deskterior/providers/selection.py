"""Which class serves as vision model, image model and product search: decided by the settings alone.

A third image adapter is one class and one line: `register_image_adapter("name", build)`, and its models in models.toml.
Without a key, development uses the sandbox and says so loudly; production starts all the same, so that photos are
classified, and every makeover is answered by `ProviderNotConfigured`. A model that OpenAI has retired is treated alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import structlog
from openai import AsyncOpenAI

from deskterior.config import Settings, SettingsError
from deskterior.errors import ProviderNotConfigured
from deskterior.providers import Described, Drawn, Found, ImageModel, ProductSearch, VisionModel
from deskterior.providers.catalogue import Catalogue
from deskterior.providers.dalle3 import Dalle3
from deskterior.providers.gpt_image import GptImage
from deskterior.providers.models import ImageEntry, Models, at_openai, check_models, known_models, retired
from deskterior.providers.naver import NaverSearch
from deskterior.providers.openai_client import openai_client
from deskterior.providers.openai_vision import Instructions, OpenAIVision
from deskterior.providers.shop import Shop
from deskterior.schemas import Concept

log = structlog.get_logger(__name__)

ImageAdapter = Callable[[AsyncOpenAI, ImageEntry, Settings], ImageModel]

_adapters: dict[str, ImageAdapter] = {}


def register_image_adapter(name: str, build: ImageAdapter) -> None:
    """Make a class of image model known under the name that models.toml gives as `adapter`."""
    _adapters[name] = build


def _by_openai(kind: Callable[..., ImageModel]) -> ImageAdapter:
    return lambda client, model, settings: kind(
        client,
        model,
        size=settings.image_size,
        quality=settings.image_quality,
        timeout_s=settings.image_timeout_s,
    )


register_image_adapter("gpt_image", _by_openai(GptImage))
register_image_adapter("dalle3", _by_openai(Dalle3))


@dataclass(frozen=True)
class Providers:
    """The outside services of one process. `notices` are the sentences that were logged at start."""

    vision: VisionModel
    image: ImageModel
    search: ProductSearch
    catalogue: Catalogue | None = None
    notices: list[str] = field(default_factory=list)
    _close: Callable[[], Awaitable[None]] | None = None

    def check(self, *, drawing: bool = True) -> None:
        """Ask before money is spent: can a makeover be done? `drawing` is False where our own model draws.

        Raises:
            ProviderNotConfigured: no key, or a retired model; says which and how to mend it.
        """
        for model in (self.vision, self.image) if drawing else (self.vision,):
            if isinstance(model, NotConfigured):
                raise ProviderNotConfigured(model.detail)

    async def aclose(self) -> None:
        """Close the clients. Calls in flight fail."""
        if self._close:
            await self._close()


def providers(
    settings: Settings, instructions: Instructions, *, models: Models | None = None, today: date | None = None
) -> Providers:
    """Open the services that the settings choose. Calls nobody yet.

    Raises:
        SettingsError: the catalogue cannot be read, the image model is of no known family or cannot draw what is
            asked, or a key has characters that no key has.
    """
    models = models or known_models()
    today = today or datetime.now(UTC).date()
    catalogue = Catalogue.load(settings.catalogue_csv) if settings.catalogue_csv else None
    notices = check_models(settings, today, models)
    closing = AsyncExitStack()
    vision, image = _openai(settings, instructions, models, today, closing, notices)
    search = _search(settings, catalogue, closing, notices)
    for notice in notices:
        log.warning("providers.notice", notice=notice)
    return Providers(vision, image, search, catalogue, notices, closing.aclose)


def _openai(
    settings: Settings,
    instructions: Instructions,
    models: Models,
    today: date,
    closing: AsyncExitStack,
    notices: list[str],
) -> tuple[VisionModel, ImageModel]:
    vision_entry, _ = models.vision_model(settings.vision_model)
    image_entry, _ = models.image_model(settings.image_model)
    if (build := _adapters.get(image_entry.adapter)) is None:
        raise SettingsError(f"IMAGE_MODEL: nothing draws with the adapter {image_entry.adapter} of {image_entry.name}")
    key = _plain("OPENAI_API_KEY", settings.openai_api_key.get_secret_value())
    client = openai_client(
        api_key=key or "none",
        base_url=settings.openai_url,
        timeout_s=max(settings.vision_timeout_s, settings.image_timeout_s),
    )
    closing.push_async_callback(client.close)
    vision: VisionModel = OpenAIVision(client, vision_entry, instructions, timeout_s=settings.vision_timeout_s)
    image = build(client, image_entry, settings)
    own = at_openai(settings.openai_url)
    if not key and (own or settings.env == "production"):
        missing = NotConfigured("OPENAI_API_KEY is missing: makeovers need OpenAI's key")
        notices.append(missing.detail)
        return missing, missing
    if settings.openai_is_sandbox:
        notices.append(
            f"OPENAI_API_KEY is missing: descriptions and pictures come from the sandbox at {settings.openai_url}"
        )
    if own and (shut := retired("VISION_MODEL", vision_entry, today)):
        vision = NotConfigured(shut)
    if own and (shut := retired("IMAGE_MODEL", image_entry, today)):
        image = NotConfigured(shut)
    return vision, image


def _search(
    settings: Settings, catalogue: Catalogue | None, closing: AsyncExitStack, notices: list[str]
) -> ProductSearch:
    client_id = _plain("NAVER_CLIENT_ID", settings.naver_client_id)
    secret = _plain("NAVER_CLIENT_SECRET", settings.naver_client_secret.get_secret_value())
    search: ProductSearch
    if not client_id and (settings.env == "production" or not (settings.naver_is_sandbox or settings.naver_base_url)):
        search = NoSearch("Naver is not configured: NAVER_CLIENT_ID and NAVER_CLIENT_SECRET are missing")
        notices.append(search.problem)
    else:
        naver = NaverSearch(
            base_url=settings.naver_url,
            client_id=client_id or "none",
            client_secret=secret or "none",
            timeout_s=settings.naver_timeout_s,
            per_second=settings.naver_per_second,
            cache_s=settings.naver_cache_s,
            per_keyword=settings.products_per_keyword,
        )
        closing.push_async_callback(naver.aclose)
        search = naver
        if settings.naver_is_sandbox:
            notices.append(f"NAVER_CLIENT_ID is missing: products come from the sandbox at {settings.naver_url}")
    return Shop(catalogue, search, per_keyword=settings.products_per_keyword) if catalogue else search


def _plain(setting: str, secret: str) -> str:
    """The secret without blanks at its ends.

    An HTTP header takes visible ASCII alone, and the libraries' own errors would quote the secret.
    """
    text = secret.strip()
    if not (text.isascii() and text.isprintable()):
        raise SettingsError(f"{setting}: it has characters that no key has; was something else pasted?")
    return text


class NotConfigured:
    """Stands in for a vision or image model that cannot be used; every call says why."""

    def __init__(self, detail: str) -> None:
        self.detail = detail

    async def describe(self, photo: bytes, concept: Concept) -> Described:  # noqa: ARG002
        raise ProviderNotConfigured(self.detail)

    async def draw(self, prompt: str, photo: bytes, concept: Concept) -> Drawn:  # noqa: ARG002
        raise ProviderNotConfigured(self.detail)


class NoSearch:
    """Stands in for a product search without credentials: the picture still comes, with the reason for no products."""

    def __init__(self, problem: str) -> None:
        self.problem = problem

    async def find(self, keywords: list[str]) -> Found:  # noqa: ARG002
        return Found([], [self.problem])
