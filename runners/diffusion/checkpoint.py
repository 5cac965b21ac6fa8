"""What lies in a checkpoint's folder, looked at before anything is loaded: no code, no pickles, nothing cut short.

No torch here: headers and JSON are all that is read. Whether the weights fit the network and draw is left to `engine`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.diffusion.versions import INDEX, LORAS, VersionUnusable, files, reading
from runners.diffusion.versions import where as within

PICKLES = {".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".joblib", ".npy", ".npz"}
CODE = {".py", ".pyc", ".so", ".pyd", ".dll"}
JSON_BYTES = 64 * 1024 * 1024
"""A tokenizer's can be 30 MB."""
HEADER_BYTES = 100_000_000
"""As much as the safetensors library reads."""
MOST_TIMESTEPS = 100_000
"""That a scheduler may have been trained with; all known ones have 1000, and it keeps numbers for each."""
SPARED = {"safety_checker", "feature_extractor", "image_encoder"}
"""Parts that pipelines draw without."""
FEW_LAYERS = 64
"""As many are built in no time."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LFS = b"version https://git-lfs"


@dataclass(frozen=True)
class Checkpoint:
    """A folder that may be loaded.

    `components` maps a name to library and class, `weights` a component to how many numbers its files hold.
    """

    class_name: str
    components: dict[str, tuple[str, str]]
    weights: dict[str, int]
    inpaints: bool
    configs: dict[str, dict[str, Any]]


def vet(folder: Path) -> Checkpoint:
    """Look at every file of a checkpoint.

    Raises:
        VersionUnusable: naming the file, what is wrong with it and what would mend it.
    """
    with reading(folder):
        return _vetted(folder)


def _vetted(folder: Path) -> Checkpoint:
    index = _index(folder)
    class_name = index.get("_class_name")
    if not isinstance(class_name, str) or not _IDENTIFIER.fullmatch(class_name):
        raise VersionUnusable(f"{INDEX} names no pipeline of diffusers: pipelines with code of their own are not run")
    components = _components(index)
    _forbid(folder)
    configs = {name: _config(folder, name) for name in components}
    weights = {name: _weights(folder, name, config) for name, config in configs.items() if config.get("_has_weights")}
    if not weights:
        raise VersionUnusable(f"No part that {INDEX} names has weights")
    for lora in found(folder / LORAS, "*.safetensors"):
        tensors(folder, lora)
    denoiser = configs.get("unet", {})
    inpaints = "Inpaint" in class_name or denoiser.get("in_channels") == 9
    return Checkpoint(class_name, components, weights, inpaints, configs)


def found(part: Path, pattern: str) -> list[Path]:
    """Files of a part by name. Hidden ones are no files of its: macOS leaves a `._name` beside each it copies."""
    return sorted(path for path in part.glob(pattern) if not path.name.startswith("."))


def tensors(folder: Path, path: Path) -> list[int]:
    """How many numbers each tensor of a safetensors file holds, by its header, which has to fit the file's length.

    Raises:
        VersionUnusable: cut short, or no safetensors at all.
    """
    where = within(folder, path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if start == _LFS[:8]:
                raise VersionUnusable(
                    f"{where} is a Git LFS pointer, not the weights: run `git lfs pull` where it is from"
                )
            length = int.from_bytes(start, "little")
            if len(start) < 8 or not 2 <= length <= min(HEADER_BYTES, size - 8):
                raise VersionUnusable(f"{where} is no safetensors file, or is cut short: copy it again")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
        numbers = [math.prod(map(int, tensor["shape"])) for tensor in header.values()]
    except OSError as error:
        raise VersionUnusable(f"{where} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, RecursionError):
        raise VersionUnusable(f"{where} is no safetensors file: its header cannot be read") from None
    if not all(0 <= many <= 8 * size for many in numbers):  # no type has less than a bit
        raise VersionUnusable(f"{where} is no safetensors file: its header tells of more than it holds")
    if 8 + length + end != size:
        raise VersionUnusable(
            f"{where} has {size} bytes where its header says {8 + length + end}: it is cut short, copy it again"
        )
    return numbers


def _index(folder: Path) -> dict[str, Any]:
    if (folder / INDEX).is_file():
        return _json(folder, folder / INDEX)
    names = {path.name for path in files(folder)}
    if not names:
        raise VersionUnusable("The folder is empty")
    if "config.json" in names or "tokenizer.json" in names:
        what = "It looks like a language model or a single part of a pipeline"
    elif any(Path(name).suffix in PICKLES | {".safetensors"} for name in names):
        what = "It looks like a checkpoint in a single file: save it as a folder with diffusers' save_pretrained"
    else:
        what = "Nothing in it is a diffusion model"
    raise VersionUnusable(f"There is no {INDEX}. {what}")


def _components(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    known = _pipeline_modules()
    parts = {}
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list) or value == [None, None]:
            continue
        if not _IDENTIFIER.fullmatch(name):
            raise VersionUnusable(f"{INDEX}: {name!r:.60} is no name of a part")
        if len(value) != 2 or not all(isinstance(part, str) and _IDENTIFIER.fullmatch(part) for part in value):
            raise VersionUnusable(f"{INDEX}: {name!r:.60} is not a library and a class")
        library, kind = value
        if library not in {"diffusers", "transformers"} and library not in known:
            raise VersionUnusable(
                f"{INDEX}: {name:.60} comes from {library:.60}, and only diffusers and transformers are loaded"
            )
        parts[name] = (library, kind)
    if not parts:
        raise VersionUnusable(f"{INDEX} names no parts")
    return parts


def _pipeline_modules() -> set[str]:
    """Names of the folders within `diffusers.pipelines`, which an index may name as libraries; nothing is imported."""
    spec = importlib.util.find_spec("diffusers")
    if spec is None or not spec.submodule_search_locations:
        raise VersionUnusable(
            "torch and diffusers are not installed where the model runs: pip install -r requirements-gpu.txt"
        )
    return {entry.name for entry in Path(spec.submodule_search_locations[0], "pipelines").iterdir() if entry.is_dir()}


def _forbid(folder: Path) -> None:
    for path in files(folder):
        where = within(folder, path)
        if path.is_dir():
            raise VersionUnusable(f"{where} is a link to a folder, which may lead anywhere: copy it, or link its files")
        if path.exists() and not path.is_file():
            raise VersionUnusable(f"{where} is a pipe or a device: remove it")
        if path.suffix.lower() in CODE:
            raise VersionUnusable(f"{where} is code. A model's own code is never run: remove it")
        if path.suffix.lower() in PICKLES:
            raise VersionUnusable(
                f"{where} may hold code (it is a pickle). Only safetensors are loaded: convert it, or remove it if a "
                ".safetensors of the same part lies beside it"
            )
        if path.suffix == ".json" and '"auto_map"' in _text(folder, path):
            raise VersionUnusable(f"{where} asks for code of the model's own (auto_map), which is never run")


def _config(folder: Path, name: str) -> dict[str, Any]:
    part = folder / name
    if not part.is_dir():
        spared = f", or write [null, null] for it in {INDEX} to do without" if name in SPARED else ""
        raise VersionUnusable(f"The folder {name}/ is missing, which {INDEX} names: copy it again{spared}")
    try:
        for path in found(part, "*.safetensors.index*.json"):
            for shard in set(_json(folder, path)["weight_map"].values()):
                if Path(shard).name != shard or not (part / shard).is_file():
                    raise VersionUnusable(f"{name}/: the shard {shard!r:.120} is missing: copy it again")
    except (KeyError, TypeError, AttributeError):
        raise VersionUnusable(f"{name}/: the list of its shards cannot be read") from None
    if (part / "config.json").is_file():
        return _json(folder, part / "config.json") | {"_has_weights": True}
    if not (part / "scheduler_config.json").is_file():
        return {}
    scheduler = _json(folder, part / "scheduler_config.json")
    steps = scheduler.get("num_train_timesteps", 0)
    if not isinstance(steps, int) or steps > MOST_TIMESTEPS:
        raise VersionUnusable(f"{name}/scheduler_config.json: num_train_timesteps is {steps!r:.20}: copy it again")
    return scheduler


def _weights(folder: Path, name: str, config: dict[str, Any]) -> int:
    held = found(folder / name, "*.safetensors")
    if not held:
        raise VersionUnusable(f"{name}/ has no weights: a .safetensors file is missing")
    # Where a part lies there in two precisions, one of them is loaded.
    plain = [path for path in held if variant(path) is None] or held
    numbers = [each for path in plain for each in tensors(folder, path)]
    for key, layers in _layers(config):
        # Building a network takes time and memory before its weights are seen not to fit.
        if layers > max(len(numbers), FEW_LAYERS):
            raise VersionUnusable(
                f"{name}/config.json asks for {layers} {key:.60}, and there are {len(numbers)} weights: copy it again"
            )
    return sum(numbers)


def _layers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """What a config says of how many parts its network has, by key."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _layers(value)
        elif isinstance(value, int) and "layers" in key:
            yield key, value
        elif isinstance(value, list) and ("layers" in key or "block" in key):
            yield key, max(len(value), *(each for each in value if isinstance(each, int) and "layers" in key), 0)


def variant(path: Path) -> str | None:
    """`fp16` of `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`."""
    match = re.fullmatch(r"[^.]+\.(fp16|bf16|fp32|non_ema)(-\d{5}-of-\d{5})?\.safetensors", path.name)
    return match[1] if match else None


def _text(folder: Path, path: Path) -> str:
    where = within(folder, path)
    try:
        if path.stat().st_size > JSON_BYTES:
            raise VersionUnusable(f"{where} is too large to be what it should be")
        return path.read_text("utf-8")
    except OSError as error:
        raise VersionUnusable(f"{where} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise VersionUnusable(f"{where} is not text: copy it again") from None


def _json(folder: Path, path: Path) -> dict[str, Any]:
    text = _text(folder, path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise VersionUnusable(f"{within(folder, path)} is not a JSON object: copy it again")
    return value
