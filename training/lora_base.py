"""The model that a LoRA is for, as training sees it: latents, captions as the denoiser takes them, and the loss.

Two kinds: a UNet that predicts noise or velocity (SD 1.5, SD 2, SDXL; inpainting too), and FLUX's transformer, which
predicts a flow. Anything else is refused by name. Steps, randomness and files are left to `lora_fit` and `lora`.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from runners.diffusion import checkpoint
from runners.diffusion.loading import load_pipeline
from runners.diffusion.versions import VersionUnusable
from training.lora_photos import LoraError, Picture, corner

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
ADAPTER = "default"


@dataclass(frozen=True)
class Texts:
    """What the denoiser takes of each caption: `(n, tokens, width)`, and `(n, width)` where it wants the whole too."""

    tokens: Tensor
    pooled: Tensor | None


@dataclass(frozen=True)
class Noise:
    """What chance gives each picture of a batch: noise like its latents, and when, `(n,)` in [0, 1)."""

    values: Tensor
    when: Tensor


class Base(ABC):
    """A pipeline of diffusers with an adapter of rank `rank` on its denoiser, ready to be trained.

    Everything but the adapter is frozen; the adapter is float32 whatever `dtype` the rest has.
    """

    denoiser_name: ClassVar[str]

    def __init__(self, pipe: Any, rank: int, dtype: torch.dtype) -> None:
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig

        self.pipe = pipe
        self.dtype = dtype
        self.denoiser = getattr(pipe, self.denoiser_name)
        self.factor: int = pipe.vae_scale_factor
        for part in pipe.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        self.denoiser.to(dtype=dtype)
        config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=ATTENTION)
        try:
            self.denoiser.add_adapter(config, adapter_name=ADAPTER)
        except ValueError as error:
            raise LoraError(f"the base's {self.denoiser_name} has no attention layers that a LoRA fits") from error
        cast_training_params(self.denoiser, dtype=torch.float32)

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's weights by name, in a fixed order."""
        return {name: weight for name, weight in self.denoiser.named_parameters() if weight.requires_grad}

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, 3, side, side)` in [-1, 1] to the latents' mean and deviation, as the denoiser wants them scaled.

        In float32: SDXL's VAE overflows in half precision.
        """
        vae = self.pipe.vae.to(dtype=torch.float32)
        found = vae.encode(pixels).latent_dist
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        scale = vae.config.scaling_factor
        return (found.mean - shift) * scale, found.std * scale

    @abstractmethod
    def texts(self, captions: list[str]) -> Texts:
        """Encode captions."""

    @abstractmethod
    def losses(self, latents: Tensor, noise: Noise, texts: Texts, sizes: Tensor) -> Tensor:
        """Weighted mean squared error of each picture, `(n,)`. `sizes` `(n, 6)` as `size_of` gives them."""

    def save(self, folder: Path, name: str) -> None:
        """Write the adapter as diffusers reads it. Raises OSError or SafetensorError where it cannot be written."""
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft.utils import get_peft_model_state_dict

        state = get_peft_model_state_dict(self.denoiser, adapter_name=ADAPTER)
        layers = {
            key: value.detach().cpu().contiguous() for key, value in convert_state_dict_to_diffusers(state).items()
        }
        self.pipe.save_lora_weights(
            folder,
            **{f"{self.denoiser_name}_lora_layers": layers},
            weight_name=name,
            safe_serialization=True,
        )


class UNetBase(Base):
    """Stable Diffusion 1.5, 2 and XL."""

    denoiser_name = "unet"

    def __init__(self, pipe: Any, rank: int, dtype: torch.dtype, min_snr: float) -> None:
        from diffusers import DDPMScheduler

        if type(pipe.scheduler).__name__.startswith(("EDM", "FlowMatch", "CMStochastic")):
            raise LoraError(
                f"the base's scheduler, {type(pipe.scheduler).__name__}, has another loss than is known here"
            )
        self.predicts: str = pipe.scheduler.config.get("prediction_type", "epsilon")
        if self.predicts not in {"epsilon", "v_prediction"}:
            raise LoraError(f"the base predicts {self.predicts!r}; known are epsilon and v_prediction")
        config = pipe.unet.config
        latent = pipe.vae.config.latent_channels
        self.inpaints = config.in_channels == 2 * latent + 1
        if config.in_channels != latent and not self.inpaints:
            raise LoraError(
                f"the base's unet takes {config.in_channels} channels, which is neither drawing nor inpainting"
            )
        self.xl = config.addition_embed_type == "text_time"
        if self.xl and getattr(pipe.config, "requires_aesthetics_score", False):
            raise LoraError("the base is SDXL's refiner; a LoRA for it is made on the SDXL base model")
        if not self.xl and config.addition_embed_type is not None:
            raise LoraError(
                f"the base's unet wants {config.addition_embed_type!r} besides the text, which is not known here"
            )
        super().__init__(pipe, rank, dtype)
        self.min_snr = min_snr
        self.kept = DDPMScheduler.from_config(pipe.scheduler.config).alphas_cumprod.to(pipe.device, torch.float32)
        self._blank: Tensor | None = None

    def texts(self, captions: list[str]) -> Texts:
        with torch.no_grad():
            if self.xl:
                tokens, _, pooled, _ = self.pipe.encode_prompt(captions, do_classifier_free_guidance=False)
                return Texts(tokens, pooled)
            tokens, _ = self.pipe.encode_prompt(captions, self.pipe.device, 1, do_classifier_free_guidance=False)
            return Texts(tokens, None)

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        if self.inpaints and self._blank is None:
            self._blank, _ = super().encode(torch.zeros_like(pixels[:1]))
        return super().encode(pixels)

    def losses(self, latents: Tensor, noise: Noise, texts: Texts, sizes: Tensor) -> Tensor:
        steps = (noise.when * len(self.kept)).long()
        kept = self.kept[steps].view(-1, 1, 1, 1)
        given = kept.sqrt() * latents + (1 - kept).sqrt() * noise.values
        if self._blank is not None:  # everything is masked: all of the picture is to be drawn
            mask = torch.ones_like(given[:, :1])
            given = torch.cat([given, mask, self._blank.expand_as(latents)], dim=1)
        more: dict[str, Any] = {}
        if self.xl:
            more["added_cond_kwargs"] = {"text_embeds": texts.pooled, "time_ids": sizes}
        made = self.denoiser(given, steps, texts.tokens, **more).sample
        if self.predicts == "epsilon":
            wanted = noise.values
        else:
            wanted = kept.sqrt() * noise.values - (1 - kept).sqrt() * latents
        error = functional.mse_loss(made.float(), wanted, reduction="none").mean(dim=(1, 2, 3))
        return error * self._weight(kept.flatten())

    def _weight(self, kept: Tensor) -> Tensor:
        """Min-SNR (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy"); 0 is none."""
        if not self.min_snr:
            return torch.ones_like(kept)
        snr = kept / (1 - kept)
        if self.predicts == "v_prediction":
            return snr.clamp(max=self.min_snr) / (snr + 1)
        return (self.min_snr / snr).clamp(max=1.0)  # at no signal at all infinite, so 1


class FluxBase(Base):
    """FLUX and what is built like it: flow matching on a straight line between latents and noise."""

    denoiser_name = "transformer"

    def texts(self, captions: list[str]) -> Texts:
        with torch.no_grad():
            tokens, pooled, _ = self.pipe.encode_prompt(captions, None, max_sequence_length=self._words())
        return Texts(tokens, pooled)

    def _words(self) -> int:
        return int(min(512, self.pipe.tokenizer_2.model_max_length))

    def losses(self, latents: Tensor, noise: Noise, texts: Texts, sizes: Tensor) -> Tensor:  # noqa: ARG002
        # The middle of the way is drawn more often: logit-normal (Esser et al. 2024, "Scaling Rectified Flow ...").
        sigma = torch.special.ndtri(noise.when.clamp(1e-4, 1 - 1e-4)).sigmoid().view(-1, 1, 1, 1)
        given = (1 - sigma) * latents + sigma * noise.values
        count, channels, high, wide = latents.shape
        guidance = torch.full((count,), 1.0, device=latents.device) if self.denoiser.config.guidance_embeds else None
        made = self.denoiser(
            hidden_states=self.pipe._pack_latents(given, count, channels, high, wide),
            timestep=sigma.flatten(),
            guidance=guidance,
            pooled_projections=texts.pooled,
            encoder_hidden_states=texts.tokens,
            txt_ids=torch.zeros(texts.tokens.shape[1], 3, device=latents.device),
            img_ids=self.pipe._prepare_latent_image_ids(count, high // 2, wide // 2, latents.device, latents.dtype),
        ).sample
        wanted = self.pipe._pack_latents(noise.values - latents, count, channels, high, wide)
        return functional.mse_loss(made.float(), wanted, reduction="none").mean(dim=(1, 2))


def load(folder: Path, *, rank: int, seed: int, dtype: torch.dtype, device: torch.device, min_snr: float) -> Base:
    """Load the checkpoint in `folder` and put an adapter on it, with the first weights that `seed` gives.

    Raises:
        LoraError: it is no whole checkpoint of safetensors, or of a family for which no loss is known here.
    """
    try:
        found = checkpoint.vet(folder)
        denoiser = next((name for name in ("unet", "transformer") if name in found.components), None)
        kind = found.components[denoiser][1] if denoiser else found.class_name
        if kind not in {"UNet2DConditionModel", "FluxTransformer2DModel"}:
            raise LoraError(
                f"{folder.name} is drawn by {kind}, for which no loss is known here: a LoRA can be made for "
                "Stable Diffusion 1.5, 2 and XL (UNet2DConditionModel) and FLUX (FluxTransformer2DModel)"
            )
        pipe = load_pipeline(folder, found, dtype).to(device)
    except VersionUnusable as error:
        raise LoraError(f"the base {folder} cannot be used: {error.detail}") from error
    except torch.OutOfMemoryError as error:
        raise LoraError(
            f"the base {folder} does not fit onto {device}: take --precision bf16, or a larger GPU"
        ) from error
    is_flux = kind == "FluxTransformer2DModel"
    if is_flux and "max_sequence_length" not in inspect.signature(pipe.encode_prompt).parameters:
        raise LoraError(f"{type(pipe).__name__} takes its text otherwise than FLUX does, which is not known here")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FluxBase(pipe, rank, dtype) if is_flux else UNetBase(pipe, rank, dtype, min_snr)


def size_of(picture: Picture, side: int) -> list[int]:
    """What SDXL is told of a picture: the file's height and width, the crop's top, left, height and width."""
    scale = side / min(picture.width, picture.height)
    left, top = corner(max(side, round(picture.width * scale)), max(side, round(picture.height * scale)), side)
    return [picture.height, picture.width, top, left, side, side]
