"""A checkpoint's folder becomes a pipeline of diffusers, whole and checked: every weight in its place and a number.

Only classes of diffusers and transformers, only safetensors, nothing from the network. The layout in memory and drawing
are left to `engine`. Blocks for seconds; belongs on a thread.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import structlog

from deskterior.schemas import Concept
from runners.diffusion.checkpoint import Checkpoint, found, variant
from runners.diffusion.quiet import prepare
from runners.diffusion.recipe import Recipes
from runners.diffusion.versions import INDEX, NoRoom, VersionUnusable

log = structlog.get_logger(__name__)

_MATRIX = re.compile(r"lora[._](A|B|down|up)[._]")
"""In the name of either matrix of a LoRA, whoever wrote it."""
_NEEDED = {"prompt", "image", "generator", "num_inference_steps", "output_type", "callback_on_step_end"}


def pipeline_class(checkpoint: Checkpoint) -> Any:
    """The image-to-image or inpainting pipeline for a checkpoint, by diffusers' own tables.

    Raises:
        VersionUnusable: it draws from words alone, makes no pictures, or needs more than a photo and words.
    """
    prepare()
    import diffusers
    from diffusers.pipelines import auto_pipeline

    name = checkpoint.class_name
    if not isinstance(getattr(diffusers, name, None), type):
        raise VersionUnusable(f"diffusers {diffusers.__version__} knows no pipeline {name:.80}")
    table = (
        auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING
        if checkpoint.inpaints
        else auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING
    )
    kind: Any = auto_pipeline._get_task_class(table, name, throw_error_if_not_exist=False)
    if kind is None:
        raise VersionUnusable(f"{name} cannot start from a photo: an image-to-image or inpainting model is needed")
    takes = inspect.signature(kind.__call__).parameters
    if "control_image" in takes or "ControlNet" in name:
        raise VersionUnusable(f"{kind.__name__} needs a control picture beside the photo, which nobody has here")
    if missing := sorted(_NEEDED - set(takes)):
        raise VersionUnusable(f"{kind.__name__} cannot be steered from here: it takes no {', '.join(missing)}")
    return kind


def load_pipeline(folder: Path, checkpoint: Checkpoint, dtype: Any) -> Any:
    """The pipeline of a vetted checkpoint in main memory, its weights of `dtype`.

    Raises:
        VersionUnusable: weights that do not fit the network, are missing or are not numbers.
    """
    kind = pipeline_class(checkpoint)
    takes = inspect.signature(kind.__init__).parameters
    needed = {name for name, each in takes.items() if each.default is inspect.Parameter.empty} - {"self"}
    if lacking := sorted(needed - set(kind._optional_components) - set(checkpoint.components)):
        raise VersionUnusable(f"{INDEX} names no {', '.join(lacking)}, and {kind.__name__} needs it")
    with_weights = {
        name: _part(folder, name, *checkpoint.components[name], dtype, checkpoint.weights[name])
        for name in checkpoint.components
        if name in checkpoint.weights
    }

    def whole() -> Any:
        from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

        auto = AutoPipelineForInpainting if checkpoint.inpaints else AutoPipelineForImage2Image
        return auto.from_pretrained(
            folder,
            torch_dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **with_weights,
        )

    pipeline: Any = _named(folder, "The pipeline cannot be put together", whole)
    if not isinstance(pipeline, kind):
        raise VersionUnusable(f"diffusers made a {type(pipeline).__name__} of it, not a {kind.__name__}")
    _check_words(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _check_words(pipeline: Any) -> None:
    """Whether each text encoder has a place for every word of its tokenizer. On a GPU, a prompt with one that it lacks
    would end CUDA in this process, also for the version that drew before."""
    for name, tokenizer in pipeline.components.items():
        encoder = pipeline.components.get(name.replace("tokenizer", "text_encoder"))
        both = hasattr(tokenizer, "get_vocab") and hasattr(encoder, "get_input_embeddings")
        if not name.startswith("tokenizer") or not both:  # some are processors, which hold one within
            continue
        places = getattr(encoder.get_input_embeddings(), "num_embeddings", None)
        if places is not None and (last := max(tokenizer.get_vocab().values())) >= places:
            raise VersionUnusable(
                f"{name}/ numbers its words up to {last}, and the text encoder has places for {places}: they do not "
                "belong together, copy both again"
            )


def _part(folder: Path, name: str, library: str, class_name: str, dtype: Any, held: int) -> Any:
    """One network, and nothing of it made up: libraries fill what is missing with random numbers, and only warn."""
    import diffusers
    import torch
    import transformers

    home: Any = {"diffusers": diffusers, "transformers": transformers}.get(library)
    home = home if home is not None else getattr(diffusers.pipelines, library, None)
    kind = getattr(home, class_name, None)
    if not isinstance(kind, type) or not issubclass(kind, diffusers.ModelMixin | transformers.PreTrainedModel):
        raise VersionUnusable(f"{name}: {library}.{class_name:.80} is no network that diffusers or transformers knows")
    if issubclass(kind, transformers.PreTrainedModel):
        _named(folder, f"{name}/ cannot be loaded", lambda: _check_room(folder / name, name, kind, held))
    kinds = {variant(path) for path in found(folder / name, "*.safetensors")}
    of = None if None in kinds else min(kind for kind in kinds if kind is not None)
    dtype_name = "torch_dtype" if issubclass(kind, diffusers.ModelMixin) else "dtype"

    def load() -> Any:
        return kind.from_pretrained(  # type: ignore[attr-defined]
            str(folder / name),
            variant=of,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **{dtype_name: dtype},
            **({} if dtype_name == "torch_dtype" else {"trust_remote_code": False}),
        )

    model, told = _named(folder, f"{name}/ cannot be loaded", load)
    if missing := sorted(map(str, told["missing_keys"])):
        raise VersionUnusable(f"{name}/ lacks {len(missing)} of its weights ({missing[0]:.80} first): copy it again")
    with torch.no_grad():
        _own(model.parameters())
        _own(model.buffers())
        for key, weight in model.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise VersionUnusable(f"{name}/: the weights in {key:.80} are not all numbers (NaN or infinite)")
    return model.eval()


def _check_room(folder: Path, name: str, kind: Any, held: int) -> None:
    """Whether the network of a config has about as many numbers as its files hold.

    transformers allocates and fills what the files lack, before anybody can see that it did: a wrong config takes all
    memory. diffusers refuses it first.
    """
    import torch

    with torch.device("meta"):
        wanted = sum(weight.numel() for weight in kind(kind.config_class.from_pretrained(folder)).parameters())
    if wanted > 2 * held:  # some weights are shared, and in the files once
        raise VersionUnusable(f"{name}/config.json is of a network of {wanted} numbers, and its files hold {held}")


def load_loras(pipeline: Any, folder: Path, recipes: Recipes) -> dict[Concept, str]:
    """Load each LoRA file once, as an adapter that `engine` switches by its name. Returns the names by concept.

    Raises:
        VersionUnusable: the pipeline takes none, or a file is none for this model.
    """
    names: dict[Path, str] = {}
    chosen: dict[Concept, str] = {}
    for concept, recipe in recipes.by_concept.items():
        if recipe.lora is None:
            continue
        path = recipe.lora.resolve()
        if path not in names:
            names[path] = f"lora_{len(names)}"
            _load_lora(pipeline, folder, recipe.lora, names[path])
        chosen[concept] = names[path]
    if names:
        pipeline.disable_lora()
        for part in pipeline.components.values():
            if hasattr(part, "named_parameters"):
                _own((weight for key, weight in part.named_parameters() if "lora_" in key))
    return chosen


def _own(weights: Iterable[Any]) -> None:
    """Copies, or weights would be views of their files, and whoever overwrites one would end the process."""
    for weight in weights:
        weight.data = weight.data.clone()


def _load_lora(pipeline: Any, folder: Path, path: Path, name: str) -> None:
    import torch

    where = path.relative_to(folder).as_posix()
    if not hasattr(pipeline, "load_lora_weights"):
        raise VersionUnusable(f"{where}: {type(pipeline).__name__} takes no LoRA")

    given: list[str] = []

    def load() -> None:
        from safetensors.torch import load_file

        weights = load_file(path)
        given.extend(sorted(weights))
        if not weights or not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
            raise ValueError("its weights are missing or not all numbers (NaN or infinite)")
        # By its name, so that what the file says of its rank and alpha is read too.
        pipeline.load_lora_weights(
            str(path.parent), weight_name=path.name, adapter_name=name, local_files_only=True, use_safetensors=True
        )

    _named(folder, f"{where} is no LoRA for this model", load)
    if not any(name in adapters for adapters in pipeline.get_list_adapters().values()):
        raise VersionUnusable(
            f"{where} is no LoRA for this model: nothing in it has a name of the model's. Names as kohya's trainer and "
            f"diffusers' save_lora_weights write them are understood; its first is {given[0]!r:.80}"
        )
    parts = (part for part in pipeline.components.values() if hasattr(part, "named_parameters"))
    used = sum(f".{name}." in key for part in parts for key, _ in part.named_parameters())
    if used < (held := sum(_MATRIX.search(key) is not None for key in given)):
        log.warning("drawing_model.lora_in_part", lora=where, weights=held, used=used)


def _named(folder: Path, what: str, work: Callable[[], Any]) -> Any:
    """`work`, with whatever it raises as a sentence that says no path of the machine."""
    try:
        return work()
    except VersionUnusable:
        raise
    except MemoryError:
        raise NoRoom(f"{what}: there is not enough memory") from None
    except Exception as error:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise NoRoom(f"{what}: there is not enough memory", internal=repr(error)[:500]) from None
        # A library's first line may be but the title of the second.
        told = " ".join([line.strip() for line in str(error).splitlines() if line.strip()][:2])
        told = told.replace(str(folder), folder.name).replace(str(folder.resolve()), folder.name)
        raise VersionUnusable(f"{what}: {told[:200] or type(error).__name__}", internal=repr(error)[:1000]) from error
