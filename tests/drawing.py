"""What tests of the drawing model share: an engine on tiny checkpoints, requests for it, and pictures compared."""

from __future__ import annotations

import asyncio
import atexit
import gc
import io
import shutil
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deskterior.config import Settings
from deskterior.schemas import Concept
from runners.diffusion.quiet import prepare
from runners.drawing import DrawnPicture, DrawRequest, VersionInfo
from runners.drawing_engine import LocalDrawing
from tests import tiny_diffusion

FAMILIES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "sd": ("StableDiffusionImg2ImgPipeline", tiny_diffusion.write_sd),
    "inpainting": ("StableDiffusionInpaintPipeline", lambda folder: tiny_diffusion.write_sd(folder, inpainting=True)),
    "sdxl": ("StableDiffusionXLImg2ImgPipeline", tiny_diffusion.write_sdxl),
    "turbo": ("StableDiffusionXLImg2ImgPipeline", lambda folder: tiny_diffusion.write_sdxl(folder, turbo=True)),
    "flux": ("FluxImg2ImgPipeline", tiny_diffusion.write_flux),
}
TOML = """
[defaults]
steps = 6
strength = 0.5
[concepts.CARTOON]
prompt_prefix = "cartoon"
"""
STEPS = 3
SAME = 3
"""Of 255: a batch is added up in another order, and JPEG rounds what it gets."""


class Checkpoints:
    """Checkpoints of every family, each made once."""

    def __init__(self, base: Path) -> None:
        prepare()
        gc.freeze()  # as a service does: half a second less for each model that is let go
        atexit.register(gc.unfreeze)  # or libraries tell of leaks
        self._base = base
        self.get = cache(self._make)

    def _make(self, family: str) -> Path:
        folder = FAMILIES[family][1](self._base / family)
        if family == "sd":
            (folder / "deskterior.toml").write_text(TOML)
            tiny_diffusion.write_lora(folder / "loras" / "OIL.safetensors", folder)
        return folder

    def install(self, models: Path, name: str = "1", family: str = "sd") -> Path:
        """A copy of it in the folder of models."""
        models.mkdir(exist_ok=True)
        shutil.copytree(self.get(family), models / f".{name}")
        return (models / f".{name}").rename(models / name)


def engine(models: Path, on_lost: Callable[[], None] = lambda: None, **more: Any) -> LocalDrawing:
    return LocalDrawing(Settings(_env_file=None, custom_model_dir=models, **more), poll_s=0.01, on_lost=on_lost)


def photo(width: int = 48, height: int = 32, seed: int = 0, form: str = "PNG", **more: Any) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(out, form, **more)
    return out.getvalue()


def request(seed: int | None = 7, concept: Concept = Concept.BASIC, of: int = 0, prompt: str = "a desk") -> DrawRequest:
    return DrawRequest(photo(seed=of), prompt, concept, seed)


def pixels(drawn: DrawnPicture) -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(drawn.image))).astype(np.int16)


def apart(one: DrawnPicture, other: DrawnPicture) -> int:
    """The largest difference of two pictures, of 255."""
    return int(np.abs(pixels(one) - pixels(other)).max())


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.001)


class Hook:
    """Something that happens on each call of the loaded model's denoiser, in its thread, until it is removed."""

    def __init__(self, drawing: LocalDrawing) -> None:
        model = drawing._switching.model
        assert model is not None
        self.model = model
        self.batches: list[int] = []
        self.do: Callable[[int], None] = lambda _: None
        self._handle = model._pipeline.unet.register_forward_pre_hook(self._called, with_kwargs=True)

    def remove(self) -> None:
        self._handle.remove()

    def _called(self, _module: Any, args: Any, _kwargs: Any) -> None:
        self.batches.append(len(args[0]) // 2)  # each picture is there with its prompt, and without
        self.do(self.batches[-1])


class Gate:
    """Holds the thread that comes to it, until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self, _: int = 0) -> None:
        self.reached.set()
        assert self.open.wait(30)

    async def until_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, 30)


def told(versions: list[VersionInfo]) -> dict[str, tuple[bool, str]]:
    """Whether each version is active, and what is wrong with it."""
    return {version.version: (version.active, version.problem) for version in versions}
