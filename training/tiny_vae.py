"""The tiny model's VAE, whose weights are set by hand: latents are the picture at half its size.

A random one would draw noise whatever the denoiser did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

LATENT = 128
"""Height and width of the latents that the denoiser says it was trained on: pictures of 256 pixels."""
CHANNELS = 4
LATENT_SCALE = 8.0
"""Latents in [-8, 8] beside noise of 1: at a strength of 0.5 the photo is a little grainy, at 0.8 still itself."""
CONSTANT = 40.0
"""See `_near_identity`; large beside the picture's values in [-1, 1]."""


def vae(*, quant: bool = True) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(16, 16),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=1,
        sample_size=2 * LATENT,
        scaling_factor=LATENT_SCALE,
        force_upcast=False,
        shift_factor=None if quant else 0.0,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
    ).eval()
    _near_identity(vae)
    return vae


def _near_identity(vae: AutoencoderKL) -> None:
    """Set the weights so that latents are the picture at half its size, and decoding doubles them.

    Residual branches end in zeros, so blocks pass on what they get. Two layers are not linear, and are made so: SiLU by
    keeping x beside -x, as silu(x) - silu(-x) = x; GroupNorm by two constant channels, c and -c, so large that they
    alone set the deviation it divides by. Those four sum to zero, so its mean is zero too.
    """
    import torch

    box = torch.zeros(3, 3)
    box[:2, :2] = 0.25  # what stride 2, padded right and below, sees of each two by two pixels
    point = torch.zeros(3, 3)
    point[1, 1] = 1.0
    ramp = torch.tensor([0.25, 0.5, 0.25])
    smooth = torch.outer(ramp, ramp)  # nearest neighbours become nearly linear ones
    rgb = torch.eye(3)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if name.endswith(("conv2", "to_out.0")):
                _set(module)
        encoder, decoder = vae.encoder, vae.decoder
        _set(encoder.conv_in, point, rgb)
        _set(encoder.down_blocks[0].downsamplers[0].conv, box, torch.cat([rgb, -rgb]), constants_at=6)
        _linear(encoder.conv_norm_out)
        latents = torch.cat([rgb, torch.full((1, 3), 1 / 3)])  # red, green, blue and grey
        _set(encoder.conv_out, point, torch.cat([latents, -latents], dim=1))
        encoder.conv_out.bias[CHANNELS:] = -20.0  # the logarithm of the variance: none
        _set(decoder.conv_in, point, rgb)
        _set(decoder.up_blocks[0].upsamplers[0].conv, smooth, torch.cat([rgb, -rgb]), constants_at=6)
        _linear(decoder.conv_norm_out)
        _set(decoder.conv_out, point, torch.cat([rgb, -rgb], dim=1))
        for conv in (vae.quant_conv, vae.post_quant_conv):
            if conv is not None:
                _set(conv, torch.ones(1, 1), torch.eye(conv.out_channels))


def _set(
    layer: Any, kernel: torch.Tensor | None = None, mix: torch.Tensor | None = None, constants_at: int | None = None
) -> None:
    """Zero the layer; its first channels become `mix` (to, from) of its first inputs, each filtered by `kernel`."""
    layer.weight.zero_()
    layer.bias.zero_()
    if kernel is not None and mix is not None:
        layer.weight[: mix.shape[0], : mix.shape[1]] = mix[:, :, None, None] * kernel
    if constants_at is not None:
        layer.bias[constants_at], layer.bias[constants_at + 1] = CONSTANT, -CONSTANT


def _linear(norm: Any) -> None:
    """Undo the division by the deviation of two constants among the channels."""
    norm.weight.fill_(CONSTANT * (2 / norm.num_channels) ** 0.5)
    norm.bias.zero_()
