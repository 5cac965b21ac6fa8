"""The sample sheet of a LoRA: a photo a row; the photo, what the base makes of it, and the LoRA at growing strength."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from deskterior.schemas import Concept
from runners.diffusion import checkpoint, recipe
from runners.diffusion.versions import VersionUnusable
from training.lora_base import ADAPTER
from training.lora_photos import LoraError, Picture, square

SCALES = (0.0, 0.5, 1.0, 1.5)
TITLE = 24
"""Height of the line of words above the pictures, in pixels."""


def wear(pipe: Any, denoiser: Any, lora: Path) -> None:
    """Take off the adapter that was trained and put on the one in the file, as a server would.

    Raises `LoraError` if diffusers does not read the file as the adapter of this pipeline.
    """
    denoiser.delete_adapters(ADAPTER)
    try:
        pipe.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name=ADAPTER, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise LoraError(f"diffusers does not read {lora} back: {error}") from error
    if ADAPTER not in {name for names in pipe.get_list_adapters().values() for name in names}:
        raise LoraError(f"diffusers found nothing in {lora} that fits the base")


def recipe_of(base: Path, concept: Concept) -> recipe.Recipe:
    """Steps, strength and guidance with which the service draws the concept. Raises `LoraError`."""
    return _recipes(base).by_concept[concept]


def side_of(base: Path) -> int:
    """The side, in pixels, of a square picture as the service draws it with this base. Raises `LoraError`."""
    return _recipes(base).side


def draw(
    pipe: Any,
    pictures: tuple[Picture, ...],
    style: recipe.Recipe,
    side: int,
    seed: int,
    advance: Callable[[], None],
) -> Image.Image:
    """Draw the sheet with the adapter that the pipeline wears; `advance` is called after each picture drawn.

    Every picture of a row begins from the same noise, so that they differ by the LoRA alone.
    """
    titles = ["photo", *("base" if scale == 0 else f"LoRA at {scale:g}" for scale in SCALES)]
    sheet = Image.new("RGB", (side * len(titles), TITLE + side * len(pictures)), "white")
    words = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        words.text((column * side + 6, 6), title, fill="black")
    for row, picture in enumerate(pictures):
        photo = Image.fromarray(square(picture, side))
        sheet.paste(photo, (0, TITLE + row * side))
        for column, scale in enumerate(SCALES, start=1):
            pipe.set_adapters([ADAPTER], [scale])
            sheet.paste(_drawn(pipe, photo, picture.caption, style, seed), (column * side, TITLE + row * side))
            advance()
    return sheet


def _drawn(pipe: Any, photo: Image.Image, caption: str, style: recipe.Recipe, seed: int) -> Image.Image:
    more: dict[str, Any] = {}
    if "Inpaint" in type(pipe).__name__:
        more["mask_image"] = Image.new("L", photo.size, 255)
    if style.negative_prompt and "Flux" not in type(pipe).__name__:
        more["negative_prompt"] = style.negative_prompt
    with torch.inference_mode():
        image: Image.Image = pipe(
            prompt=style.prompt(caption),
            image=photo,
            height=photo.height,
            width=photo.width,
            strength=style.strength,
            num_inference_steps=style.steps,
            guidance_scale=style.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
            **more,
        ).images[0]
    return image


def _recipes(base: Path) -> recipe.Recipes:
    try:
        return recipe.read(base, checkpoint.vet(base), base.name)
    except VersionUnusable as error:
        raise LoraError(f"the base {base} cannot be used: {error.detail}") from error
