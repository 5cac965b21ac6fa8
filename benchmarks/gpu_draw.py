"""A picture drawn by a network of SDXL's size, at 1024 pixels, on a GPU: `python -m benchmarks.gpu_draw`.

Seconds a picture by batch, precision and mode; peak memory, with and without slices; changing LoRAs; and whether the
next picture is drawn after memory has run out. The weights are random: what is drawn is nothing, in the usual time.
"""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_card, report
from benchmarks.gpu_card import Given

STEPS, STRENGTH, GUIDANCE = 30, 0.6, 6.0
MODES = ("eager", "channels_last", "compiled")
BATCHES = (1, 2, 4, 8)
COMPILED = {1, 4}
"""Compiling takes minutes a shape."""
PRECISIONS = ("fp16", "bf16")
ROOM = ("plain", "vae slices", "vae tiles", "attention slices")
UNET: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
"""SDXL's, as its authors published it (Podell et al. 2023): 2.57 billion numbers."""
TINY_UNET = UNET | {
    "sample_size": 8,
    "block_out_channels": (32, 32, 32),
    "transformer_layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 32,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 32,
}
VAE_CHANNELS, TINY_VAE_CHANNELS = (128, 256, 512, 512), (32, 32, 32, 32)


def main(arguments: list[str] | None = None) -> None:
    given = gpu_card.asked("gpu_draw", __doc__ or "", arguments)
    from diffusers.utils import logging

    logging.set_verbosity_error()
    results: dict[str, Any] = {"machine": gpu_card.machine(given), "limits": gpu_card.limits(given)}
    batches, precisions = ((1, 2), ("bf16",)) if given.tiny else (BATCHES, PRECISIONS)
    results["cells"] = []
    for precision in precisions:
        _measure(Drawing(given, precision), precision, batches, results)
        gc.collect()
    for cell in results["cells"]:
        if "seconds" in cell:
            done = results["tflop_a_step"] * 2 * int(STEPS * STRENGTH) / cell["seconds"]
            cell["of_the_limit"] = done / results["limits"][cell["precision"]]
    gpu_card.finish(given, "gpu_draw", "Drawing at 1024 pixels on a GPU", results, _tables(results, batches))


def _measure(drawing: Drawing, precision: str, batches: tuple[int, ...], results: dict[str, Any]) -> None:
    for mode in MODES:
        drawing.wear(mode)
        for batch in batches:
            found = gpu_card.attempted(lambda: drawing.cell(batch))  # noqa: B023
            results["cells"].append({"precision": precision, "mode": mode, "batch": batch} | found)
    drawing.wear("eager")
    if "room" not in results:  # precision makes no difference to these
        results["parameters"] = drawing.parameters
        results["tflop_a_step"] = drawing.tflop()
        results["room"] = {kind: gpu_card.attempted(lambda: drawing.room(kind)) for kind in ROOM}  # noqa: B023
        results["lora"] = gpu_card.attempted(drawing.loras)
        results["out_of_memory"] = gpu_card.attempted(drawing.out_of_memory)


class Drawing:
    """The pipeline, and what is measured of it. Prompts come encoded: text encoders take milliseconds."""

    def __init__(self, given: Given, precision: str) -> None:
        from diffusers import (
            AutoencoderKL,
            EulerDiscreteScheduler,
            StableDiffusionXLImg2ImgPipeline,
            UNet2DConditionModel,
        )

        self._given = given
        self._dtype = gpu_card.set_precision(precision)
        shape = TINY_UNET if given.tiny else UNET
        self._side = 64 if given.tiny else 1024
        self._steps = 4 if given.tiny else STEPS
        torch.manual_seed(0)
        kept = torch.get_default_dtype()
        torch.set_default_dtype(self._dtype)
        try:
            with given.device:  # made where it is used: ten seconds instead of minutes
                unet = UNet2DConditionModel(**shape)
                vae = AutoencoderKL(
                    block_out_channels=TINY_VAE_CHANNELS if given.tiny else VAE_CHANNELS,
                    down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4,
                    layers_per_block=2,
                    sample_size=1024,
                    scaling_factor=0.13025,
                )
        finally:
            torch.set_default_dtype(kept)
        self.pipe = StableDiffusionXLImg2ImgPipeline(
            vae=vae.eval(),
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=unet.eval(),
            scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            add_watermarker=False,
        ).to(given.device)
        self.pipe.set_progress_bar_config(disable=True)
        self._pooled = shape["projection_class_embeddings_input_dim"] - 6 * shape["addition_time_embed_dim"]
        self._width = shape["cross_attention_dim"]
        self._unet = unet
        self._mode = "eager"

    @property
    def parameters(self) -> int:
        return sum(weight.numel() for weight in self._unet.parameters())

    def wear(self, mode: str) -> None:
        """Lay the networks out for a mode."""
        self._mode = mode
        layout = torch.contiguous_format if mode == "eager" else torch.channels_last
        self._unet.to(memory_format=layout)
        self.pipe.vae.to(memory_format=layout)
        self.pipe.unet = self._unet
        if mode == "compiled":
            torch.compiler.reset()
            backend = "eager" if self._given.tiny else "inductor"
            self.pipe.unet = torch.compile(self._unet, dynamic=False, backend=backend)

    def draw(self, batch: int, steps: int | None = None) -> None:
        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=self._given.device, dtype=self._dtype)

        with torch.inference_mode():
            self.pipe(
                image=torch.rand(batch, 3, self._side, self._side, device=self._given.device, dtype=self._dtype),
                prompt_embeds=random(batch, 77, self._width),
                negative_prompt_embeds=random(batch, 77, self._width),
                pooled_prompt_embeds=random(batch, self._pooled),
                negative_pooled_prompt_embeds=random(batch, self._pooled),
                num_inference_steps=steps or self._steps,
                strength=STRENGTH,
                guidance_scale=GUIDANCE,
                output_type="pt",
            )

    def cell(self, batch: int) -> dict[str, Any]:
        """Seconds a picture, and the most memory that torch held."""
        if self._mode == "compiled" and batch not in COMPILED:
            return {"skipped": "not compiled for this batch"}
        gpu_card.free(self._given)
        began = time.perf_counter()
        self.draw(batch, 4)
        gpu_card.wait(self._given)
        ready = time.perf_counter() - began
        taken = gpu_card.seconds(self._given, lambda: self.draw(batch), 1 if self._given.tiny else 2, warm=0)
        return {"seconds": taken / batch, "ready_s": ready, "peak_gib": gpu_card.peak_gib(self._given)}

    def tflop(self) -> float:
        """Of the denoiser for one picture and one step, one half of the guidance."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with counter:
            self.draw(1, 2)
        passes = 2 * max(1, int(2 * STRENGTH))
        unet = counter.get_flop_counts().get(type(self._unet).__name__, {})
        return sum(unet.values()) / passes / 1e12

    def room(self, kind: str) -> dict[str, Any]:
        """Time and memory of a batch of 4 when room is made in one way."""
        if kind == "vae slices":
            self.pipe.vae.enable_slicing()
        elif kind == "vae tiles":
            self.pipe.vae.enable_tiling()
        elif kind == "attention slices":
            self.pipe.enable_attention_slicing()
        try:
            return self.cell(2 if self._given.tiny else 4)
        finally:
            self.pipe.vae.disable_slicing()
            self.pipe.vae.disable_tiling()
            if kind == "attention slices":
                self.pipe.disable_attention_slicing()

    def loras(self) -> dict[str, Any]:
        """Two LoRAs of rank 16: read from their files, put on by turns, taken off; and what wearing one costs."""
        from diffusers.utils import convert_state_dict_to_diffusers
        from peft import LoraConfig
        from peft.utils import get_peft_model_state_dict

        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        found: dict[str, Any] = {"plain_s": self.cell(1)["seconds"]}
        with tempfile.TemporaryDirectory() as folder:
            for name in ("one", "two"):
                config = LoraConfig(r=16, lora_alpha=16, init_lora_weights=False, target_modules=targets)
                self._unet.add_adapter(config, adapter_name=name)
                layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(self._unet, adapter_name=name))
                self.pipe.save_lora_weights(folder, unet_lora_layers=layers, weight_name=f"{name}.safetensors")
            found["mb"] = (Path(folder) / "one.safetensors").stat().st_size / 1e6
            self._unet.delete_adapters(["one", "two"])
            began = time.perf_counter()
            for name in ("one", "two"):
                self.pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
            gpu_card.wait(self._given)
            found["read_s"] = (time.perf_counter() - began) / 2
        turn = iter(range(1_000_000))
        swap = lambda: self.pipe.set_adapters(("one", "two")[next(turn) % 2])  # noqa: E731
        found["swap_s"] = gpu_card.seconds(self._given, swap, 5)
        found["worn_s"] = self.cell(1)["seconds"]
        self.pipe.unload_lora_weights()
        return found

    def out_of_memory(self) -> dict[str, Any]:
        """Whether a picture is drawn after one that did not fit, and how long freeing takes."""
        if not self._given.cuda:
            return {"skipped": "a GPU's memory is wanted"}
        gpu_card.free(self._given)
        room, _ = torch.cuda.mem_get_info(self._given.device)
        ballast: torch.Tensor | None = torch.empty(max(0, room - 2**30), dtype=torch.uint8, device=self._given.device)
        failed = False
        try:
            self.draw(8, 4)
        except torch.OutOfMemoryError:
            failed = True
        began = time.perf_counter()
        ballast = None
        gc.collect()
        gpu_card.free(self._given)
        freed = time.perf_counter() - began
        del ballast
        self.draw(1, 4)
        gpu_card.wait(self._given)
        return {"failed": failed, "freed_s": freed, "drawn_after": True}


def _tables(results: dict[str, Any], batches: tuple[int, ...]) -> list[report.Table]:
    cells = {(cell["precision"], cell["mode"], cell["batch"]): cell for cell in results["cells"]}
    kinds = dict.fromkeys((precision, mode) for precision, mode, _ in cells)
    columns = ["precision", "mode", *map(str, batches)]

    def table(heading: str, key: str, form: str) -> report.Table:
        rows = [[*kind, *(gpu_card.shown(cells[(*kind, batch)], key, form) for batch in batches)] for kind in kinds]
        return heading, columns, rows

    lora, memory = results["lora"], results["out_of_memory"]
    return [
        gpu_card.limits_table(results["limits"]),
        table(f"Seconds a picture by batch: {STEPS} steps at strength {STRENGTH:g}, with guidance", "seconds", ".3f"),
        table(
            f"Share of the card's products ({results['parameters'] / 1e9:.2f} billion numbers, "
            f"{results['tflop_a_step']:.2f} TFLOP a step)",
            "of_the_limit",
            ".1%",
        ),
        table("Most memory, GiB", "peak_gib", ".1f"),
        table("Seconds until the first picture of 4 steps, compiling included", "ready_s", ".1f"),
        (
            "Room made, batch of 4, eager",
            ["", "seconds a picture", "most memory, GiB"],
            [
                [kind, gpu_card.shown(found, "seconds", ".3f"), gpu_card.shown(found, "peak_gib", ".1f")]
                for kind, found in results["room"].items()
            ],
        ),
        (
            "LoRAs of rank 16",
            ["a file, MB", "read, s", "swap, s", "a picture without, s", "a picture with, s"],
            [[gpu_card.shown(lora, key, ".3f") for key in ("mb", "read_s", "swap_s", "plain_s", "worn_s")]],
        ),
        (
            "After memory has run out",
            ["it did run out", "freed, s", "the next picture is drawn"],
            [[gpu_card.shown(memory, key, "") for key in ("failed", "freed_s", "drawn_after")]],
        ),
    ]


if __name__ == "__main__":
    main()
