"""Tiny diffusion checkpoints for tests: the real pipelines of diffusers with random weights, a few hundred KB each.

One for each kind that matters: SD 1.5, SDXL, inpainting and FLUX. Tokenizers are made on the spot, letter by letter.
Importing this module is cheap; `write_*` import torch and diffusers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runners.diffusion.quiet import prepare

SIDE = 32
"""What they draw, in pixels: their VAE shrinks 4 times."""
_WIDTH = 16


def write_sd(folder: Path, *, seed: int = 0, side: int = SIDE, inpainting: bool = False) -> Path:
    """An SD 1.5, or its inpainting sister with 9 channels. Returns `folder`."""
    prepare()
    import torch
    from diffusers import (
        DDIMScheduler,
        StableDiffusionInpaintPipeline,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=side // 4,
        in_channels=9 if inpainting else 4,
        block_out_channels=(_WIDTH, 2 * _WIDTH),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=_WIDTH,
        attention_head_dim=2,
    )
    kind: Any = StableDiffusionInpaintPipeline if inpainting else StableDiffusionPipeline
    pipeline = kind(
        vae=_vae(),
        text_encoder=_clip(),
        tokenizer=_clip_tokenizer(folder.parent / f".{folder.name}-tokenizer"),
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return _save(pipeline, folder)


def write_sdxl(folder: Path, *, seed: int = 0, turbo: bool = False) -> Path:
    """An SDXL; `turbo` has the scheduler of SDXL Turbo."""
    prepare()
    import torch
    from diffusers import (
        EulerAncestralDiscreteScheduler,
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )

    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=SIDE // 4,
        block_out_channels=(_WIDTH, 2 * _WIDTH),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + _WIDTH,
        cross_attention_dim=2 * _WIDTH,
    )
    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    tokenizer = _clip_tokenizer(folder.parent / f".{folder.name}-tokenizer")
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip(),
        text_encoder_2=_clip(projection=True),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerAncestralDiscreteScheduler(timestep_spacing="trailing", **betas)
        if turbo
        else EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **betas),
    )
    return _save(pipeline, folder)


def write_flux(folder: Path, *, seed: int = 0) -> Path:
    """A FLUX of the `dev` kind. It does not say how large it draws: `settings` of the folder does."""
    prepare()
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=2 * _WIDTH,
        pooled_projection_dim=_WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=300, d_model=2 * _WIDTH, d_kv=8, d_ff=64, num_layers=1, num_heads=2, is_encoder_decoder=False
        )
    )
    pipeline = FluxPipeline(
        vae=_vae(shift_factor=0.1),
        text_encoder=_clip(),
        tokenizer=_clip_tokenizer(folder.parent / f".{folder.name}-tokenizer"),
        text_encoder_2=t5,
        tokenizer_2=_t5_tokenizer(),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    _save(pipeline, folder)
    (folder / "deskterior.toml").write_text(f"side = {SIDE}\n[defaults]\nsteps = 4\n")
    return folder


def write_lora(path: Path, checkpoint: Path, *, seed: int = 1, alpha: int = 4) -> Path:
    """A LoRA of rank 4 for the UNet of `checkpoint`, strong enough to be seen. Returns `path`."""
    prepare()
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(seed)
    unet: Any = UNet2DConditionModel.from_pretrained(checkpoint / "unet")
    unet.add_adapter(LoraConfig(r=4, lora_alpha=alpha, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    weights = {name: 2 * torch.randn_like(weight) for name, weight in get_peft_model_state_dict(unet).items()}
    StableDiffusionPipeline.save_lora_weights(
        path.parent,
        unet_lora_layers=weights,
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        weight_name=path.name,
    )
    return path


def _save(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def _vae(**more: float) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(_WIDTH, _WIDTH, _WIDTH),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        **more,
    )


def _clip(*, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=_WIDTH,
        projection_dim=_WIDTH,
        intermediate_size=2 * _WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def _clip_tokenizer(folder: Path) -> Any:
    """CLIP's, that knows no word: each byte is a token."""
    from transformers import CLIPTokenizer

    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [chr(byte) for byte in printable]
    letters += [chr(256 + at) for at in range(256 - len(letters))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    try:
        (folder / "vocab.json").write_text(json.dumps({token: at for at, token in enumerate(tokens)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _t5_tokenizer() -> Any:
    from transformers import T5Tokenizer

    pieces = ["<pad>", "</s>", "<unk>", "▁", *(chr(at) for at in range(ord("!"), ord("~") + 1))]
    return T5Tokenizer(vocab=[(piece, 0.0) for piece in pieces], extra_ids=0, model_max_length=512)
