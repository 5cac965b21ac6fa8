"""What is loaded: adapters of other makers, parts that do not fit each other, too little memory, a GPU that is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deskterior.errors import CustomModelMissing, RunnerFailed
from deskterior.schemas import Concept
from runners.diffusion import layout, memory, switching
from runners.diffusion.memory import MemoryPlan
from runners.drawing_engine import LocalDrawing
from tests.drawing import SAME, Checkpoints, Hook, apart, request, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def as_kohya_writes(path: Path, target: Path, *, with_text: bool) -> None:
    """The LoRA in `path` under the names that kohya's trainer gives, if wanted with one for the text encoder beside."""
    import torch
    from safetensors.torch import load_file, save_file

    weights: dict[str, Any] = {}
    for key, weight in load_file(path).items():
        module, _, matrix = key.removeprefix("unet.").partition(".lora_")
        name = f"lora_unet_{module.replace('.', '_')}"
        weights[f"{name}.lora_{'down' if matrix.startswith('A') else 'up'}.weight"] = weight
        weights[f"{name}.alpha"] = torch.tensor(4.0)
    for projection in ("q", "k", "v", "out") if with_text else ():
        name = f"lora_te_text_model_encoder_layers_0_self_attn_{projection}_proj"
        down, up = torch.linspace(-2, 2, 64).sin(), torch.linspace(-3, 1, 64).cos()
        weights |= {f"{name}.lora_down.weight": down.view(4, 16), f"{name}.lora_up.weight": up.view(16, 4)}
        weights[f"{name}.alpha"] = torch.tensor(4.0)
    save_file(weights, target)


async def test_an_adapter_by_another_trainer_draws_the_same_and_its_words_stay_its_own(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    folder = checkpoints.install(models)
    oil = folder / "loras" / "OIL.safetensors"
    as_kohya_writes(oil, folder / "loras" / "SIMPLE.safetensors", with_text=False)
    as_kohya_writes(oil, folder / "loras" / "MSPAINT.safetensors", with_text=True)
    drawing = opened()
    of = {concept: await drawing.draw(request(1, concept)) for concept in Concept}
    assert apart(of[Concept.OIL], of[Concept.SIMPLE]) <= SAME
    assert of[Concept.OIL].image != of[Concept.MSPAINT].image
    for concept in (Concept.OIL, Concept.BASIC):
        assert (await drawing.draw(request(1, concept))).image == of[concept].image


async def test_an_adapter_whose_file_is_overwritten_draws_on(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    oil = checkpoints.install(models) / "loras" / "OIL.safetensors"
    drawing = opened()
    before = await drawing.draw(request(1, Concept.OIL))
    with oil.open("r+b") as file:  # in place, as `cp` does: a view of the file would end the process
        file.truncate(10)
    assert (await drawing.draw(request(1, Concept.OIL))).image == before.image


async def refused(drawing: LocalDrawing) -> str:
    with pytest.raises(CustomModelMissing) as told:
        await drawing.draw(request())
    return told.value.detail


async def test_words_that_the_text_encoder_has_no_place_for_are_seen_before_anything_is_drawn(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    path = checkpoints.install(models) / "tokenizer" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["desks</w>"] = 9000
    path.write_text(json.dumps(tokenizer))
    assert "tokenizer/ numbers its words up to 9000, and the text encoder has places for 514" in await refused(opened())


async def test_a_version_of_parts_without_weights_is_refused_beside_one_that_draws(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models, "1")
    drawing = opened()
    await drawing.draw(request())
    folder = checkpoints.install(models, "2")
    for config in folder.glob("*/config.json"):
        config.unlink()
    (models / "active").write_text("2")
    await drawing.refresh()
    versions = {each.version: each for each in (await drawing.info()).versions}
    assert "has weights" in versions["2"].problem
    assert versions["1"].active
    assert (await drawing.draw(request())).version == "1"


async def test_a_model_without_room_is_taken_up_once_there_is_some(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = memory.free_ram
    monkeypatch.setattr(memory, "free_ram", lambda: 0)
    monkeypatch.setattr(switching, "ROOM_AFTER_S", 0.0)
    checkpoints.install(models)
    drawing = opened()
    assert "main memory" in await refused(drawing)
    monkeypatch.setattr(memory, "free_ram", free)
    await until(lambda: drawing._switching.model is not None)
    assert (await drawing.draw(request())).version == "1"
    (version,) = (await drawing.info()).versions
    assert (version.active, version.problem) == (True, "")


async def test_what_is_broken_is_not_loaded_again_and_again(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "ROOM_AFTER_S", 0.0)
    (checkpoints.install(models) / "model_index.json").write_text("{}")
    drawing = opened()
    await drawing.refresh()
    looked: list[int] = []
    monkeypatch.setattr(drawing._folder, "active", lambda: looked.append(1))
    await drawing.refresh()
    assert looked == []


async def test_a_gpu_that_is_lost_is_told_even_where_nothing_of_it_can_be_freed(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    checkpoints.install(models)
    restarts: list[int] = []
    drawing = opened(on_lost=lambda: restarts.append(1))
    await drawing.refresh()

    def lost(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    hook = Hook(drawing)
    hook.do = lost
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lost)
    monkeypatch.setattr(hook.model._pipeline, "maybe_free_model_hooks", lost)
    with pytest.raises(RunnerFailed, match="restarted"):
        await drawing.draw(request())
    assert restarts == [1]
    hook.model.close()  # as another version would have it
    monkeypatch.undo()
    drawing._switching.model = None


async def test_a_part_that_works_on_films_too_is_laid_out_as_it_is() -> None:
    import torch

    flat, film = torch.nn.Conv2d(4, 4, 3), torch.nn.Conv3d(4, 4, 3)

    def placed(*layers: Any) -> bool:
        part = torch.nn.ModuleList(layers)
        pipeline = SimpleNamespace(vae=part, unet=None, to=lambda _: None)
        layout.place(
            pipeline,
            MemoryPlan("resident", vae_slices=False, attention_slices=False, max_batch=1),
            torch.device("cpu"),
        )
        return flat.weight.is_contiguous(memory_format=torch.channels_last)

    assert not placed(flat, film)
    assert placed(flat)
