"""How a version draws each concept: steps, strength, guidance, words around the prompt, LoRA.

From `deskterior.toml` (or `model.toml`) in the version's folder, over defaults by the kind of model. No torch here.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deskterior.schemas import Concept
from runners.diffusion.checkpoint import Checkpoint, tensors
from runners.diffusion.versions import LORAS, VersionUnusable, reading

FILES = ("deskterior.toml", "model.toml")
FILE_BYTES = 256 * 1024
FEW_STEPS_WORDS = ("turbo", "lightning", "hyper", "lcm", "schnell")
MAX_RATIO = 3.0
"""Longer pictures are drawn squeezed, as networks have seen few of them."""

Words = Annotated[str, Field(max_length=2000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Part(_Strict):
    steps: int | None = Field(default=None, ge=1, le=200)
    strength: float | None = Field(default=None, gt=0, le=1)
    guidance_scale: float | None = Field(default=None, ge=0, le=50)
    true_cfg_scale: float | None = Field(default=None, ge=1, le=50)
    prompt_prefix: Words | None = None
    prompt_suffix: Words | None = None
    negative_prompt: Words | None = None
    lora: str | None = Field(default=None, max_length=200)
    lora_scale: float | None = Field(default=None, ge=-4, le=4)


class _File(_Strict):
    side: int | None = Field(default=None, ge=16, le=4096)
    multiple: int | None = Field(default=None, ge=1, le=256)
    few_steps: bool | None = None
    defaults: _Part = _Part()
    concepts: dict[str, _Part] = {}


@dataclass(frozen=True)
class Recipe:
    """All that one concept is drawn with. `lora` is a safetensors file within the version's folder."""

    steps: int
    strength: float
    guidance_scale: float
    true_cfg_scale: float | None
    prompt_prefix: str
    prompt_suffix: str
    negative_prompt: str
    lora: Path | None
    lora_scale: float

    def prompt(self, asked: str) -> str:
        """The prompt with the recipe's words around it; what cannot be encoded (half a surrogate) is replaced."""
        whole = " ".join(part for part in (self.prompt_prefix, asked, self.prompt_suffix) if part)
        return whole.encode("utf-8", "replace").decode()


@dataclass(frozen=True)
class Recipes:
    """`side`: the area drawn is at most `side` x `side` pixels, its sides multiples of `multiple`."""

    side: int
    multiple: int
    by_concept: dict[Concept, Recipe]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height in which a photo of this shape is drawn."""
        ratio = min(max(width / height, 1 / MAX_RATIO), MAX_RATIO)
        return self._side(self.side * math.sqrt(ratio)), self._side(self.side / math.sqrt(ratio))

    def hurried(self, side: int) -> Recipes:
        """For a picture of `side`, in as few steps as leave one to every scheduler (PNDM wants four) and strength."""
        few = {
            concept: replace(how, steps=min(how.steps, max(4, math.ceil(1 / how.strength) + 1)))
            for concept, how in self.by_concept.items()
        }
        return replace(self, side=side, by_concept=few)

    def _side(self, wanted: float) -> int:
        # A hair more than exact, or sqrt(2) * 1024 / sqrt(2) would be 1023.9999.
        return max(1, int(wanted / self.multiple + 1e-6)) * self.multiple


def read(folder: Path, checkpoint: Checkpoint, name: str) -> Recipes:
    """The recipes of the version `name`.

    Raises:
        VersionUnusable: the file is wrong, or names a LoRA that is not there; says what and where.
    """
    with reading(folder):
        return _read(folder, checkpoint, name)


def _read(folder: Path, checkpoint: Checkpoint, name: str) -> Recipes:
    file, where = _file(folder)
    few = file.few_steps if file.few_steps is not None else _few_steps(checkpoint, name)
    kind = _kind(checkpoint, few=few)
    side = file.side or _side(checkpoint)
    multiple = file.multiple or 2 * _vae_factor(checkpoint)
    if multiple > side:
        raise VersionUnusable(f"{where}: multiple is {multiple}, more than the side of {side}")
    parts = {}
    for key, part in file.concepts.items():
        if key not in Concept.__members__:
            raise VersionUnusable(f"{where}: {key!r:.60} is none of the concepts {', '.join(Concept)}")
        parts[Concept(key)] = part
    recipes = {
        concept: _recipe(folder, where, concept, parts.get(concept, _Part()), file.defaults, kind)
        for concept in Concept
    }
    return Recipes(side, multiple, recipes)


def _file(folder: Path) -> tuple[_File, str]:
    path = next((folder / name for name in FILES if (folder / name).exists()), None)
    if path is None:
        return _File(), FILES[0]
    try:
        with path.open("rb") as source:
            text = source.read(FILE_BYTES + 1)
        if len(text) > FILE_BYTES:
            raise VersionUnusable(f"{path.name} is over {FILE_BYTES // 1024} KB")
        return _File.model_validate(tomllib.loads(text.decode("utf-8"))), path.name
    except OSError as error:
        raise VersionUnusable(f"{path.name} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VersionUnusable(f"{path.name} is not TOML: {str(error)[:150]}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise VersionUnusable(f"{path.name}: {'.'.join(map(str, first['loc']))[:120]}: {first['msg']}") from None


def _recipe(folder: Path, where: str, concept: Concept, own: _Part, shared: _Part, kind: _Part) -> Recipe:
    def pick(name: str) -> object:
        return next((value for part in (own, shared, kind) if (value := getattr(part, name)) is not None), None)

    merged = {name: value for name in _Part.model_fields if (value := pick(name)) is not None}
    part = _Part.model_validate(merged)
    steps, strength = part.steps or 30, part.strength or 0.6  # every kind has them
    if int(steps * strength) < 1:
        raise VersionUnusable(
            f"{where}: for {concept} steps x strength is {steps} x {strength:g}, and has to be at least 1"
        )
    return Recipe(
        steps=steps,
        strength=strength,
        guidance_scale=part.guidance_scale or 0.0,
        true_cfg_scale=part.true_cfg_scale,
        prompt_prefix=part.prompt_prefix or "",
        prompt_suffix=part.prompt_suffix or "",
        negative_prompt=part.negative_prompt or "",
        lora=_lora(folder, where, concept, part.lora),
        lora_scale=1.0 if part.lora_scale is None else part.lora_scale,
    )


def _lora(folder: Path, where: str, concept: Concept, named: str | None) -> Path | None:
    """The adapter that the file names, else the one that is named for the concept. `""` in the file: none."""
    if named == "":
        return None
    if named is None:
        path = folder / LORAS / f"{concept}.safetensors"
        return path if path.exists() else None
    path = folder / named
    if path.suffix != ".safetensors" or Path(named).is_absolute() or ".." in Path(named).parts:
        raise VersionUnusable(
            f"{where}: lora of {concept} is {named!r:.80}: it has to be a .safetensors file of the folder"
        )
    tensors(folder, path)
    return path


def _kind(checkpoint: Checkpoint, *, few: bool) -> _Part:
    """Defaults of a family, as its authors recommend them."""
    name = checkpoint.class_name
    if few:
        return _Part(steps=4, strength=0.5, guidance_scale=1.0 if name.startswith("LatentConsistency") else 0.0)
    if name.startswith("StableDiffusionXL"):
        return _Part(steps=30, strength=0.6, guidance_scale=6.0)
    if name.startswith("Flux"):
        return _Part(steps=28, strength=0.75, guidance_scale=3.5)
    if name.startswith("StableDiffusion3"):
        return _Part(steps=28, strength=0.7, guidance_scale=6.0)
    return _Part(steps=30, strength=0.6, guidance_scale=7.0)


def _few_steps(checkpoint: Checkpoint, name: str) -> bool:
    """Whether it is distilled to draw in a few steps without guidance; no file says so plainly."""
    if any(word in name.lower() for word in FEW_STEPS_WORDS):
        return True
    scheduler = checkpoint.components.get("scheduler", ("", ""))[1]
    if scheduler in {"LCMScheduler", "TCDScheduler"}:
        return True
    spacing = checkpoint.configs.get("scheduler", {}).get("timestep_spacing")
    if scheduler == "EulerAncestralDiscreteScheduler" and spacing == "trailing":  # as SD Turbo and SDXL Turbo have it
        return True
    if checkpoint.class_name.startswith("Flux"):
        return checkpoint.configs.get("transformer", {}).get("guidance_embeds") is False
    return checkpoint.configs.get("unet", {}).get("time_cond_proj_dim") is not None


def _side(checkpoint: Checkpoint) -> int:
    for part in ("unet", "transformer"):
        sample = checkpoint.configs.get(part, {}).get("sample_size")
        if isinstance(sample, int) and 1 <= sample <= 4096:
            return min(max(sample * _vae_factor(checkpoint), 16), 2048)
    return 1024


def _vae_factor(checkpoint: Checkpoint) -> int:
    """How many pixels of a side are one of the latent's."""
    blocks = checkpoint.configs.get("vae", {}).get("block_out_channels")
    return int(2 ** min(len(blocks) - 1, 6)) if isinstance(blocks, list) and blocks else 8
