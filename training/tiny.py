"""``python -m training tiny``: a diffusers image-to-image checkpoint that is complete and tiny, made from nothing.

For tests and the demo: every part is there (denoiser, VAE, text encoders, tokenizers, scheduler), nothing is
downloaded, and the same seed gives the same bytes. The denoiser is random. The VAE is not: its weights are set so that
it halves the picture and doubles it again, and its latents are large beside the noise, so what is drawn is still the
photo.
"""

from __future__ import annotations

import argparse
import json
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rich.console import Console
from rich.markup import escape

from training.tiny_vae import CHANNELS, LATENT, vae

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5Tokenizer

Family = Literal["sd15", "sdxl", "flux", "inpaint"]
FAMILIES: tuple[Family, ...] = get_args(Family)
CACHE = Path(".cache/tiny-model")
STAMP = "tiny.json"
RECIPE = 2
"""Counted up when the bytes change, so that a cached checkpoint is made again."""

HIDDEN = 32


class TinyError(ValueError):
    """The checkpoint cannot be made there; the message says why."""


def add_command(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=f"for the checkpoint (default: FAMILY below {CACHE}, kept out of git)",
    )
    command.add_argument("--family", choices=FAMILIES, default="sd15")
    command.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> int:
    """The command. Returns the exit status: 2 for what the user can mend."""
    console = Console(highlight=False, soft_wrap=True)
    folder: Path = options.out or CACHE / options.family
    try:
        make(folder, options.family, options.seed)
    except TinyError as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        return 2
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    console.print(escape(f"{folder}: a tiny {options.family} model, {size / 1e6:.1f} MB. To draw with it:"))
    console.print(escape(f"CUSTOM_MODEL_DIR={shlex.quote(str(folder.parent))} make serve"))
    return 0


def make(folder: Path, family: Family = "sd15", seed: int = 0) -> Path:
    """Make the checkpoint in `folder`, or leave the very same one that is there. Returns `folder`.

    It appears whole or not at all. Raises `TinyError` if `folder` holds something else, or cannot be written.
    """
    stamp = json.dumps({"family": family, "recipe": RECIPE, "seed": seed}) + "\n"
    try:
        if _stamp(folder) == stamp:
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent) as staging:
            staged = Path(staging) / folder.name
            _pipeline(family, seed).save_pretrained(staged, safe_serialization=True)
            (staged / STAMP).write_text(stamp, encoding="utf-8")
            if family == "flux":  # its configuration does not tell what it was trained on
                (staged / "deskterior.toml").write_text(f"side = {2 * LATENT}\n", encoding="utf-8")
            if folder.exists():
                folder.rename(Path(staging) / "old")
            staged.replace(folder)
    except OSError as error:
        if folder.is_dir() and _stamp(folder) == stamp:  # another process was quicker
            return folder
        raise TinyError(f"cannot make a tiny model in {folder}: {error.strerror or error}") from error
    return folder


def _stamp(folder: Path) -> str:
    """Of the tiny model in `folder`, `""` where there is nothing. Raises `TinyError` if there is something else."""
    if not folder.exists() or not any(folder.iterdir()):
        return ""
    found = folder / STAMP
    if not found.is_file():
        raise TinyError(f"{folder} holds something else than a tiny model; name an empty or a new folder")
    return found.read_text(encoding="utf-8")


def _pipeline(family: Family, seed: int) -> DiffusionPipeline:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    kinds: dict[Family, Callable[[], DiffusionPipeline]] = {
        "sd15": _sd15,
        "inpaint": _inpaint,
        "sdxl": _sdxl,
        "flux": _flux,
    }
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
        torch.manual_seed(seed)
        return kinds[family]()


def _sd15() -> DiffusionPipeline:
    from diffusers import StableDiffusionImg2ImgPipeline

    return StableDiffusionImg2ImgPipeline(**_sd15_parts(CHANNELS), image_encoder=None)


def _inpaint() -> DiffusionPipeline:
    from diffusers import StableDiffusionInpaintPipeline

    # The latents, the mask, and the latents of the picture without what is masked.
    return StableDiffusionInpaintPipeline(**_sd15_parts(2 * CHANNELS + 1), image_encoder=None)


def _sd15_parts(in_channels: int) -> dict[str, Any]:
    from diffusers import DDIMScheduler

    return {
        "unet": _unet(in_channels, cross_attention_dim=HIDDEN),
        "vae": vae(),
        "text_encoder": _clip(),
        "tokenizer": _clip_tokenizer(),
        "scheduler": DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _sdxl() -> DiffusionPipeline:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLImg2ImgPipeline

    return StableDiffusionXLImg2ImgPipeline(
        unet=_unet(
            CHANNELS,
            cross_attention_dim=2 * HIDDEN,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + HIDDEN,  # six numbers of size and crop, and the pooled text
            use_linear_projection=True,
        ),
        vae=vae(),
        text_encoder=_clip(),
        text_encoder_2=_clip(projection=True),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(pad="!"),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def _flux() -> DiffusionPipeline:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    letters = _t5_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * CHANNELS,  # two by two latents are one token
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=HIDDEN,
        pooled_projection_dim=HIDDEN,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxImg2ImgPipeline(
        transformer=transformer,
        vae=vae(quant=False),
        text_encoder=_clip(),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(letters), d_model=HIDDEN, d_kv=8, d_ff=HIDDEN, num_layers=2, num_heads=2)
        ).eval(),
        tokenizer_2=letters,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


def _unet(in_channels: int, **family: Any) -> UNet2DConditionModel:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=in_channels,
        out_channels=CHANNELS,
        layers_per_block=1,
        block_out_channels=(16, 16, 32),
        norm_num_groups=8,
        # Attention only where a 256-pixel picture is 32 by 32: quick on a CPU.
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        **family,
    ).eval()


def _clip(*, projection: bool = False) -> CLIPTextModel:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = _clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        projection_dim=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _clip_tokenizer(pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's tokenizer with no merges: every byte is a token, so every prompt is read, and cut at 75 bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=[], pad_token=pad, model_max_length=77)


def _t5_tokenizer() -> T5Tokenizer:
    """T5's tokenizer over printable ASCII; other letters are unknown to it."""
    from transformers import T5Tokenizer

    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(chr(code), -3.0) for code in range(33, 127)]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=512)
