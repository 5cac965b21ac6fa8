"""The steps of a LoRA's training, each a pure function of seed and step number, and the file a run goes on from.

What is drawn for a step (pictures, flips, times, noise) depends on nothing that went before, so a resumed run needs no
more than weights and the optimizer's state to be the uninterrupted one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from training.lora_base import Base, Noise, Texts, size_of
from training.lora_photos import LoraError, Pictures, square

CLIP = 1.0
"""Gradients are cut to this norm, as in diffusers' own examples."""
FIXED = 8
"""Pictures, or times for fewer pictures, over which a loss is compared before and after."""


@dataclass(frozen=True)
class Examples:
    """All pictures as the denoiser's latents, as they are and mirrored: mean and deviation `(2, n, c, h, w)`."""

    mean: Tensor
    deviation: Tensor
    texts: Texts
    text_of: Tensor
    """`(n,)`: the row of `texts` that is a picture's caption."""
    sizes: Tensor
    """`(n, 6)`, see `size_of`."""

    def __len__(self) -> int:
        return len(self.text_of)


@dataclass
class Progress:
    """Where a run is: one loss for each step taken."""

    losses: list[float] = field(default_factory=list)

    @property
    def step(self) -> int:
        return len(self.losses)


def prepare(base: Base, pictures: Pictures, side: int, advance: Callable[[], None]) -> Examples:
    """Decode and encode every picture once; `advance` is called after each. Raises `LoraError` for a broken one."""
    means, deviations = [], []
    for picture in pictures.items:
        pixels = torch.from_numpy(square(picture, side)).permute(2, 0, 1)[None].float() / 127.5 - 1
        both = torch.cat([pixels, pixels.flip(-1)]).to(base.pipe.device)
        mean, deviation = base.encode(both)
        means.append(mean.cpu())
        deviations.append(deviation.cpu())
        advance()
    captions = sorted({picture.caption for picture in pictures.items})
    row = {caption: number for number, caption in enumerate(captions)}
    parts = [base.texts([caption]) for caption in captions]
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Examples(
        torch.stack(means, dim=1),
        torch.stack(deviations, dim=1),
        Texts(torch.cat([part.tokens for part in parts]), torch.cat(pooled) if pooled else None),
        torch.tensor([row[picture.caption] for picture in pictures.items]),
        torch.tensor([size_of(picture, side) for picture in pictures.items], dtype=torch.float32),
    )


class Fit:
    """One run. `micro` pictures are on the device at once: fewer where memory ends, with activations computed twice."""

    def __init__(self, base: Base, examples: Examples, *, batch: int, learning_rate: float, seed: int) -> None:
        self.base, self.examples = base, examples
        self.batch, self.seed = batch, seed
        self.micro = batch
        self.recomputes = False
        self.progress = Progress()
        self._weights = base.trained()
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=learning_rate, weight_decay=1e-2)
        self._device = next(iter(self._weights.values())).device
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=base.dtype is torch.float16)

    def step(self) -> float:
        """Take the next step; returns its loss.

        Raises:
            LoraError: the loss is no number any more, or even one picture does not fit into memory.
        """
        while True:
            try:
                loss = self._try()
            except torch.OutOfMemoryError:
                self._optimizer.zero_grad(set_to_none=True)
                self._make_room()
            else:
                break
        self._scaler.unscale_(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), CLIP).item()
        # In fp16 gradients may be infinite: the scaler leaves that step out, and scales less.
        if not math.isfinite(loss) or not (math.isfinite(norm) or self._scaler.is_enabled()):
            raise LoraError(
                f"the loss is no number any more at step {self.progress.step + 1}: lower --lr, or take --precision fp32"
            )
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self.progress.losses.append(loss)
        return loss

    def fixed_loss(self) -> float:
        """The loss over the same pictures, times and noise every time: what a run is judged by."""
        count = len(self.examples)
        chosen = np.arange(FIXED) % count
        random = torch.Generator().manual_seed(self.seed)
        when = (torch.arange(FIXED) + 0.5) / FIXED
        total = 0.0
        with torch.no_grad(), self._evaluated():
            for at in range(FIXED):
                rows = torch.from_numpy(chosen[at : at + 1])
                noise = torch.randn(self._shape(1), generator=random)
                total += self._losses(
                    rows, torch.zeros(1, dtype=torch.long), when[at : at + 1], noise, noise * 0
                ).item()
        return total / FIXED

    def save(self, path: Path, arguments: dict[str, str | int | float]) -> None:
        """Write all that `load` needs, at once or not at all. Raises OSError."""
        tensors = {"losses": torch.tensor(self.progress.losses, dtype=torch.float64)}
        for name, weight in self._weights.items():
            tensors[f"weight.{name}"] = weight.detach()
            for part, value in self._optimizer.state.get(weight, {}).items():
                tensors[f"{part}.{name}"] = value
        if self._scaler.is_enabled():
            state = self._scaler.state_dict()
            tensors["scaler"] = torch.tensor([state["scale"], state["_growth_tracker"]], dtype=torch.float64)
        tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
        write(path, safetensors.torch.save(tensors, {"arguments": json.dumps(arguments, sort_keys=True)}))

    def load(self, path: Path) -> None:
        """Go on from a file of `save`. Raises `LoraError` if it is not one of this model and rank."""
        try:
            tensors = safetensors.torch.load_file(path)
            for name, weight in self._weights.items():
                with torch.no_grad():
                    weight.copy_(tensors[f"weight.{name}"])
                if f"exp_avg.{name}" in tensors:
                    self._optimizer.state[weight] = {
                        "step": tensors[f"step.{name}"],
                        "exp_avg": tensors[f"exp_avg.{name}"].to(weight.device),
                        "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(weight.device),
                    }
            if self._scaler.is_enabled() and "scaler" in tensors:
                scale, tracked = tensors["scaler"].tolist()
                state = self._scaler.state_dict() | {"scale": scale, "_growth_tracker": int(tracked)}
                self._scaler.load_state_dict(state)
            self.progress = Progress(tensors["losses"].tolist())
        except (KeyError, RuntimeError, safetensors.SafetensorError) as error:
            raise LoraError(f"{path} is no checkpoint of this run: begin anew in another folder") from error

    def _try(self) -> float:
        number = self.progress.step
        rows = torch.from_numpy(_rows(self.seed, number, self.batch, len(self.examples)))
        random = torch.Generator().manual_seed(int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0]))
        mirrored = torch.randint(2, (self.batch,), generator=random)
        when = torch.rand(self.batch, generator=random)
        noise = torch.randn(self._shape(self.batch), generator=random)
        sampled = torch.randn(self._shape(self.batch), generator=random)
        total = 0.0
        with self._training():
            for at in range(0, self.batch, self.micro):
                part = slice(at, at + self.micro)
                losses = self._losses(rows[part], mirrored[part], when[part], noise[part], sampled[part])
                loss = losses.sum() / self.batch
                self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                total += loss.item()
        return total

    def _losses(self, rows: Tensor, mirrored: Tensor, when: Tensor, noise: Tensor, sampled: Tensor) -> Tensor:
        given, where = self.examples, self._device
        latents = (given.mean[mirrored, rows] + given.deviation[mirrored, rows] * sampled).to(where)
        text = given.text_of[rows].to(given.texts.tokens.device)
        pooled = given.texts.pooled
        texts = Texts(given.texts.tokens[text].to(where), None if pooled is None else pooled[text].to(where))
        mixed = self.base.dtype is not torch.float32
        with torch.autocast(where.type, self.base.dtype) if mixed else nullcontext():
            return self.base.losses(latents, Noise(noise.to(where), when.to(where)), texts, given.sizes[rows].to(where))

    def _shape(self, count: int) -> tuple[int, ...]:
        return (count, *self.examples.mean.shape[2:])

    def _make_room(self) -> None:
        """First activations are computed twice instead of kept, then a batch is halved, down to one picture."""
        if not self.recomputes:
            self.recomputes = True
            self.base.denoiser.enable_gradient_checkpointing()
        elif self.micro > 1:
            self.micro = (self.micro + 1) // 2
        else:
            raise LoraError("out of memory with one picture at a time: lower --resolution, or take --precision bf16")
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def _training(self) -> Iterator[None]:
        self.base.denoiser.train()  # gradient checkpointing is only done then; there is no dropout to be turned on
        try:
            yield
        finally:
            self.base.denoiser.eval()

    @contextmanager
    def _evaluated(self) -> Iterator[None]:
        self.base.denoiser.eval()
        yield


def written_arguments(path: Path) -> dict[str, str | int | float]:
    """The arguments of the run that `Fit.save` wrote there. Raises `LoraError` if it is none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            found: dict[str, str | int | float] = json.loads((file.metadata() or {})["arguments"])
            return found
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise LoraError(f"{path} is no checkpoint of a LoRA run: begin anew in another folder") from error


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, also through a crash of the machine. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as part:
        try:
            part.write(data)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).chmod(0o644)
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _rows(seed: int, step: int, batch: int, count: int) -> np.ndarray:
    """The pictures of a step: every epoch goes through all of them, in an order of its own."""
    places = np.arange(step * batch, (step + 1) * batch)
    epochs = {int(epoch): np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in places // count}
    return np.array([epochs[int(place // count)][place % count] for place in places], dtype=np.int64)
