"""What routers and job workers work with: one object of each kind, opened at the start and closed at the end."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from fastapi import Request

from deskterior import storage
from deskterior.callback_messages import no_code
from deskterior.callbacks import CallbackSender
from deskterior.config import Settings, SettingsError
from deskterior.errors import NotFound, PhotoUnreachable
from deskterior.gateway.gateway import Gateway
from deskterior.jobs.database import Database
from deskterior.makeover.makeovers import Makeovers
from deskterior.makeover.outfit import Outfit
from deskterior.makeover.prompts import Prompts
from deskterior.photos import Photos
from deskterior.providers.custom import OwnModel
from deskterior.providers.selection import Providers, providers
from deskterior.storage import Storage
from runners.drawing import DrawingClient
from runners.drawing_placement import anything_installed, connect_drawing
from runners.placement import DeskClient, connect_desk_classifier


@dataclass(frozen=True)
class Workplace:
    """What makeovers are made with, and the makeovers, made in the order in which one needs the other."""

    settings: Settings
    storage: Storage
    photos: Photos
    desk: DeskClient
    providers: Providers
    drawing: DrawingClient
    makeovers: Makeovers

    @classmethod
    async def furnish(cls, settings: Settings, opened: AsyncExitStack, *, runs_jobs: bool) -> Self:
        """What is opened is closed with `opened`. `runs_jobs`: whether makeovers are made in this process."""
        store = storage.build(settings)
        opened.push_async_callback(store.aclose)

        async def own(url: str) -> bytes | None:
            """A photo in our own storage is read there, whatever the rules for strangers' addresses say."""
            if (key := await store.key_of(url)) is None:
                return None
            try:
                return await store.get(key)
            except NotFound:
                raise PhotoUnreachable("Nothing has been uploaded to this address yet") from None

        photos = Photos(settings, own)
        opened.push_async_callback(photos.aclose)
        desk = await connect_desk_classifier(settings)
        opened.push_async_callback(desk.aclose)
        drawing = await connect_drawing(settings)
        opened.push_async_callback(drawing.aclose)
        prompts = Prompts.load()
        outside = providers(settings, prompts)
        opened.push_async_callback(outside.aclose)
        sender = CallbackSender(settings)
        opened.push_async_callback(sender.aclose)
        database = Database(settings.database_url.get_secret_value())
        opened.callback(database.close)
        outfit = Outfit(
            photos=photos,
            storage=store,
            desk=desk,
            desk_threshold=_threshold(settings, desk),
            vision=outside.vision,
            images={"v1": outside.image},
            search=outside.search,
            sender=sender,
            prompts=prompts,
            own_model=OwnModel(drawing),
            own_code=outside.catalogue.product_code if outside.catalogue else no_code,
        )
        makeovers = Makeovers(settings, database, outfit, runs_jobs=runs_jobs)
        opened.push_async_callback(makeovers.close)
        await makeovers.launch()
        return cls(settings, store, photos, desk, outside, drawing, makeovers)

    @property
    def desk_threshold(self) -> float:
        """Score from which a photo is a desk."""
        return _threshold(self.settings, self.desk)


@dataclass(frozen=True)
class Services(Workplace):
    """Everything that answers a request: opened by `open`, closed by `aclose`."""

    gateway: Gateway
    opened: AsyncExitStack

    @staticmethod
    async def rehearse(settings: Settings) -> None:
        """Make what shows whether the settings can be used, and let it go again: no model, no jobs, nobody is called.

        Raises:
            SettingsError: naming the one that cannot be used.
        """
        async with AsyncExitStack() as opened:
            opened.push_async_callback(Gateway.open(settings).aclose)
            opened.push_async_callback(storage.build(settings).aclose)
            opened.push_async_callback(Photos(settings).aclose)
            opened.push_async_callback(providers(settings, Prompts.load()).aclose)
            opened.push_async_callback(CallbackSender(settings).aclose)
            opened.callback(Database(settings.database_url.get_secret_value()).close)
            if settings.desk_placement == "embedded" and not (settings.desk_model_dir / "model.json").is_file():
                raise SettingsError(
                    f"DESK_MODEL_DIR: there is no model in {settings.desk_model_dir}; `make train` makes one"
                )
            alone = settings.api_runs_jobs or settings.custom_placement != "embedded"
            if not alone and anything_installed(settings.custom_model_dir):
                raise SettingsError(
                    "JOB_WORKERS: the API and each job worker would load the drawing model for themselves; set "
                    "CUSTOM_RUNNER=process, or the address of its runner"
                )

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        async with AsyncExitStack() as opened:
            gateway = Gateway.open(settings)
            opened.push_async_callback(gateway.aclose)
            work = await Workplace.furnish(settings, opened, runs_jobs=settings.api_runs_jobs)
            return cls(**vars(work), gateway=gateway, opened=opened.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    async def aclose(self) -> None:
        await self.opened.aclose()


def _threshold(settings: Settings, desk: DeskClient) -> float:
    return desk.info.threshold if settings.desk_threshold is None else settings.desk_threshold


def services_of(request: Request) -> Services:
    """The services of the application that a request reached."""
    found: Services = request.app.state.services
    return found


async def services(request: Request) -> Services:
    """`services_of` as a FastAPI dependency; asynchronous, because others each take a trip to a thread."""
    return services_of(request)
