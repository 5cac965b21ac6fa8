"""A version of the drawing model that is broken: refused with the reason, and the old one goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deskterior.errors import CustomModelMissing
from runners.diffusion.versions import ModelFolder
from runners.drawing_engine import LocalDrawing
from tests.drawing import Checkpoints, request, told
from tests.integration.drawing.spoiled import (
    UNET,
    blow_up,
    drop_one,
    foreign_lora,
    misfit_lora,
    nan_in_one,
    nan_lora,
    rename_all,
    reshape_one,
    spoil_config,
    spoil_index,
    spoil_weights,
    truncate,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncate, "cut short"),
        (lambda folder: (folder / UNET).unlink(), "unet/ has no weights"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "tokenizer/ is missing"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text("{}"), "cannot be put together"),
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), "cannot be put together"),
        (lambda folder: (folder / "text_encoder" / "run.py").write_text("print()"), "is code"),
        (lambda folder: (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b""), "pickle"),
        (lambda folder: (folder / "deskterior.toml").write_text("steps = 3"), "steps"),
        (spoil_index(_class_name="PixArtAlphaPipeline"), "cannot start from a photo"),
        (spoil_index(_class_name="TextToVideoSDPipeline"), "cannot start from a photo"),
        (spoil_index(_class_name="StableDiffusionControlNetPipeline"), "control picture"),
        (spoil_index(_class_name="NoSuchPipeline"), "knows no pipeline NoSuchPipeline"),
        (spoil_index(_class_name="ModelMixin"), "cannot start from a photo"),
        (spoil_index(unet=["diffusers", "NoSuchModel"]), "unet: diffusers.NoSuchModel is no network"),
        (spoil_index(unet=["transformers", "Trainer"]), "is no network"),
        (spoil_index(unet=["diffusers", "AutoencoderKL"]), "unet/"),
        (spoil_index(_class_name="StableDiffusionXLPipeline"), "fails to draw.*Error"),
        (spoil_index(scheduler=[None, None]), "names no scheduler"),
        (spoil_weights("unet", drop_one), "unet/ lacks 1 of its weights"),
        (spoil_weights("text_encoder", drop_one), "text_encoder/ lacks 1 of its weights"),
        (spoil_weights("vae", rename_all), r"vae/ lacks \d+ of its weights"),
        (spoil_weights("unet", reshape_one), "unet/ cannot be loaded"),
        (spoil_weights("text_encoder", reshape_one), "text_encoder/ cannot be loaded"),
        (spoil_weights("vae", nan_in_one), "vae/: the weights in .*NaN"),
        (spoil_weights("vae", blow_up), "fails to draw.*NaN"),
        (spoil_config("unet", cross_attention_dim=48), "unet/"),
        (
            spoil_config("text_encoder", vocab_size=60_000_000),
            r"is of a network of 960\d{6} numbers, and its files hold",
        ),
        (spoil_config("unet", sample_size="wide"), "unet/|fails to draw|put together"),
        (foreign_lora, "SIMPLE.safetensors is no LoRA for this model"),
        (misfit_lora, "SIMPLE.safetensors is no LoRA for this model"),
        (nan_lora, "SIMPLE.safetensors is no LoRA for this model.*NaN"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_broken_version_is_refused_with_the_reason_and_the_old_one_goes_on(
    one: LocalDrawing, checkpoints: Checkpoints, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    folder = one._folder.path
    checkpoints.install(folder, "2")
    spoil(folder / "2")
    ModelFolder(folder).activate("2")
    try:
        await one.refresh()
        versions = (await one.info()).versions
        assert told(versions)["1"] == (True, "")
        active, problem = told(versions)["2"]
        assert not active
        assert pytest.raises(AssertionError, match=said).matches(AssertionError(problem)), problem
        assert str(folder) not in problem
        assert len(problem) < 600
        assert (await one.draw(request())).version == "1"
        assert (await one.check()).startswith("ok")
    finally:
        ModelFolder(folder).activate("1")
        ModelFolder(folder).remove("2")
    await one.refresh()
    assert told((await one.info()).versions) == {"1": (True, "")}


async def test_with_nothing_but_a_broken_version_requests_are_told_why(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    truncate(checkpoints.install(models))
    drawing = opened()
    with pytest.raises(CustomModelMissing, match=r"cannot be used: .*cut short"):
        await drawing.draw(request())
    assert "cut short" in told((await drawing.info()).versions)["1"][1]
    shutil.copy(checkpoints.get("sd") / UNET, models / "1" / UNET)
    await drawing.refresh()
    assert (await drawing.draw(request())).version == "1"
