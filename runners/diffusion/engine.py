"""A version that is loaded and draws, on the GPU or on a CPU: batches of one concept and size, on one thread.

Which requests make a batch, and when another version takes over, is left to `runners.drawing_engine`.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image

from deskterior.errors import RunnerFailed
from deskterior.schemas import Concept
from runners.diffusion import checkpoint, layout, memory, recipe
from runners.diffusion.failures import Abandoned, DeviceLost, OutOfMemory, Withheld, failure, first_line
from runners.diffusion.layout import Options as Options
from runners.diffusion.loading import load_loras, load_pipeline
from runners.diffusion.memory import MemoryPlan
from runners.diffusion.pictures import finish
from runners.diffusion.quiet import prepare
from runners.diffusion.versions import NoRoom, Version, VersionUnusable

log = structlog.get_logger(__name__)

Size = tuple[int, int]


@dataclass(frozen=True)
class Item:
    """One picture to be drawn over `picture`, RGB of any size."""

    picture: Image.Image
    prompt: str
    seed: int


class DrawingModel:
    """A version in memory. One thread at a time; `load` may run beside another model's drawing."""

    def __init__(
        self,
        version: Version,
        pipeline: Any,
        recipes: recipe.Recipes,
        adapters: dict[Concept, str],
        plan: MemoryPlan,
        device: Any,
    ) -> None:
        import torch

        self.version = version
        self.family = type(pipeline).__name__
        self.recipes = recipes
        self.plan = plan
        self.adapters = adapters
        self.max_batch = plan.max_batch
        self._pipeline = pipeline
        self._torch = torch
        self.torch_device = device
        self.bytes = sum(
            weight.numel() * weight.element_size()
            for part in pipeline.components.values()
            if hasattr(part, "parameters")
            for weight in part.parameters()
        )
        self._takes = set(inspect.signature(pipeline.__call__).parameters)
        if "strength" not in self._takes:  # those that edit take a list of pictures for one prompt
            self.max_batch = 1
        self.device = f"{device.type} ({str(pipeline.dtype).removeprefix('torch.')})"

    @classmethod
    def load(cls, version: Version, options: Options) -> DrawingModel:
        """Vet, load and try a version: it draws one small picture of each concept that has an adapter.

        Raises:
            VersionUnusable: with the reason.
            NoRoom: in particular, because memory ran out.
        """
        found = checkpoint.vet(version.path)
        recipes = recipe.read(version.path, found, version.name)
        prepare()
        import torch

        device = torch.device("cuda" if options.device == "auto" and torch.cuda.is_available() else "cpu")
        dtype = layout.precise(torch, device, options.precision)
        needed = sum(found.weights.values()) * dtype.itemsize
        if needed > (free := memory.free_ram()):
            raise NoRoom(
                f"It needs {needed / 1e9:.1f} GB of main memory to be loaded, and {free / 1e9:.1f} GB are free"
            )
        try:
            pipeline = load_pipeline(version.path, found, dtype)
            adapters = load_loras(pipeline, version.path, recipes)
            planned = layout.planned(found, recipes, options, layout.free_on(torch, device), dtype.itemsize)
            layout.place(pipeline, planned, device)
            model = cls(version, pipeline, recipes, adapters, planned, device)
            model._try()
        except VersionUnusable:
            raise
        except RunnerFailed as error:
            kind = NoRoom if isinstance(error, OutOfMemory) else VersionUnusable
            told = error.internal.replace(str(version.path), version.name)[:200]
            raise kind(f"It fails to draw: {error.detail}" + (f" ({told})" if told else "")) from None
        except Exception as error:  # noqa: BLE001 - whatever a driver or library raises is the reason
            failed = failure(torch, error, 1)
            kind = NoRoom if isinstance(failed, OutOfMemory) else VersionUnusable
            raise kind(f"It cannot be put on {device.type}: {first_line(error)}", internal=failed.internal) from None
        log.info(
            "drawing_model.loaded", version=version.name, family=model.family, device=model.device, **vars(planned)
        )
        return model

    def size(self, picture: Image.Image) -> Size:
        """Width and height in which a picture is drawn; pictures of one size may share a batch."""
        return self.recipes.size(*picture.size)

    def draw(
        self,
        concept: Concept,
        items: Sequence[Item],
        on_step: Callable[[int, int], None] = lambda _done, _total: None,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> list[Image.Image | RunnerFailed]:
        """Draw items of one size. Each result is a picture of its photo's shape, or why there is none.

        The same seed, photo and prompt give the same picture whatever else is in the batch, up to rounding: each item
        has a generator of its own, on the CPU, so that it also is the same on every device.

        Raises:
            Abandoned: `abandoned` said so after a step.
            OutOfMemory: for the batch as a whole; a smaller one may fit.
            DeviceLost: nothing will be drawn any more.
            RunnerFailed: the pipeline failed.
        """
        prepare()
        # The traceback of an error holds every tensor of the frames it went through. So it ends in here, and memory is
        # freed after it has gone.
        outcome = self._draw(concept, items, on_step, abandoned)
        if isinstance(outcome, list):
            return outcome
        if not isinstance(outcome, DeviceLost):  # what is lost frees nothing, and would raise an error of its own
            self._pipeline.maybe_free_model_hooks()
            _forget(self._torch, generation=1)  # frames that died just now; all of it takes a second with torch
        raise outcome

    def close(self) -> None:
        """Let the memory go."""
        if self.plan.placement != "resident":
            self._pipeline.remove_all_hooks()
        self._pipeline = None
        _forget(self._torch)

    def _draw(
        self,
        concept: Concept,
        items: Sequence[Item],
        on_step: Callable[[int, int], None],
        abandoned: Callable[[], bool],
    ) -> list[Image.Image | RunnerFailed] | RunnerFailed | Abandoned:
        torch = self._torch
        try:
            self._choose_adapter(concept)
            arguments = self._arguments(concept, items)

            def step_end(pipeline: Any, index: int, _: Any, tensors: dict[str, Any]) -> dict[str, Any]:
                total = int(getattr(pipeline, "num_timesteps", 0) or index + 1)
                on_step(min(index + 1, total), total)
                _end_if(abandoned())
                return tensors

            made = self._pipeline(**arguments, callback_on_step_end=step_end)
            flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(items)
            return self._pictures(items, np.asarray(made.images), flagged)
        except Abandoned:
            return Abandoned()
        except RunnerFailed as error:
            return error
        except BaseException as error:  # noqa: BLE001 - a pipeline may raise anything, and its frames must not outlive it
            return failure(torch, error, len(items))

    def _choose_adapter(self, concept: Concept) -> None:
        if not self.adapters:
            return
        if concept in self.adapters:
            self._pipeline.enable_lora()
            self._pipeline.set_adapters([self.adapters[concept]], [self.recipes.by_concept[concept].lora_scale])
        else:
            self._pipeline.disable_lora()

    def _arguments(self, concept: Concept, items: Sequence[Item]) -> dict[str, Any]:
        how = self.recipes.by_concept[concept]
        width, height = self.size(items[0].picture)
        many = len(items)
        pictures = [item.picture.resize((width, height), Image.Resampling.LANCZOS) for item in items]
        generators = [self._torch.Generator("cpu").manual_seed(item.seed) for item in items]
        possible: dict[str, Any] = {
            "prompt": [how.prompt(item.prompt) for item in items],
            "image": pictures,
            "num_inference_steps": how.steps,
            "strength": how.strength,
            "guidance_scale": how.guidance_scale,
            "generator": generators,
            "width": width,
            "height": height,
            "output_type": "np",
            "_auto_resize": False,
        }
        if "mask_image" in self._takes:  # the whole picture is drawn anew
            possible["mask_image"] = [Image.new("L", (width, height), 255)] * many
        if how.negative_prompt:
            possible["negative_prompt"] = [how.negative_prompt] * many
        if how.true_cfg_scale is not None:
            possible["true_cfg_scale"] = how.true_cfg_scale
        return {name: value for name, value in possible.items() if name in self._takes}

    def _pictures(
        self, items: Sequence[Item], images: NDArray[Any], flagged: Sequence[bool]
    ) -> list[Image.Image | RunnerFailed]:
        width, height = self.size(items[0].picture)
        if images.shape != (len(items), height, width, 3):
            raise RunnerFailed(
                internal=f"{self.family} drew {images.shape} where {len(items)} x {height} x {width} x 3"
            )
        return [
            finish(item.picture, image, flagged=flag) for item, image, flag in zip(items, images, flagged, strict=True)
        ]

    def _try(self) -> None:
        """Draw once as asked for BASIC and once with each adapter: small, for a CPU; on a GPU, as large as it gets."""
        full = self.torch_device.type == "cuda"
        side = self.recipes.side if full else min(self.recipes.side, max(128, 4 * self.recipes.multiple))
        across = np.tile(np.linspace(0, 255, side, dtype=np.uint8), (side, 1))
        picture = Image.fromarray(np.stack([across, across.T, across], -1))
        tried: set[str] = set()
        recipes = self.recipes
        try:
            self.recipes = recipes.hurried(side)
            for concept in Concept:
                adapter = self.adapters.get(concept, "")
                if adapter not in tried:
                    tried.add(adapter)
                    (drawn,) = self.draw(concept, [Item(picture, "a desk", 0)])
                    if isinstance(drawn, RunnerFailed) and not isinstance(drawn, Withheld):
                        raise drawn
        finally:
            self.recipes = recipes


def fits_beside(version: Version, options: Options, loaded: DrawingModel) -> bool:
    """Whether a version, loaded beside another model, gets the same layout as without it.

    Raises:
        VersionUnusable: it is broken, which takes no loading to see.
    """
    found = checkpoint.vet(version.path)
    recipes = recipe.read(version.path, found, version.name)
    prepare()
    import torch

    item_bytes = layout.precise(torch, loaded.torch_device, options.precision).itemsize
    free = layout.free_on(torch, loaded.torch_device)
    if sum(found.weights.values()) * item_bytes > memory.free_ram():
        return False
    alone = layout.planned(found, recipes, options, free + loaded.bytes, item_bytes)
    return layout.planned(found, recipes, options, free, item_bytes) == alone


def free_memory() -> None:
    """Give back what a model that is gone, or was never there for want of torch, has left behind."""
    if (torch := sys.modules.get("torch")) is not None:
        _forget(torch)


def _end_if(abandoned: bool) -> None:
    """Out of the pipeline: going through what is left of it costs a decode and whatever else follows the steps."""
    if abandoned:
        raise Abandoned


def _forget(torch: Any, generation: int = 2) -> None:
    gc.collect(generation)
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # the GPU is lost, which whoever draws next will say
            torch.cuda.empty_cache()
