"""One run of LoRA training: pictures -> latents -> steps -> the LoRA, its sample sheet and a summary, in one folder."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL.Image import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import SafetensorError

from deskterior.makeover.prompts.own import OwnPrompts
from deskterior.schemas import Concept, Description
from runners.diffusion.quiet import prepare
from runners.diffusion.versions import LORAS, files
from training import lora_base, lora_fit, lora_photos, lora_sheet
from training.lora import CHECKPOINT, Request
from training.lora_base import Base
from training.lora_fit import Fit
from training.lora_photos import LoraError, Pictures

SHEET, SUMMARY = "sheet.png", "summary.json"
MAX_SIDE = 4096


def train(request: Request, console: Console) -> None:
    """Train, or go on training, and write everything into the run's folder.

    Raises:
        LoraError: something is wrong with what was given; the message says what to mend.
        OSError: the disk is full, or the folder cannot be written.
    """
    began = time.monotonic()
    prepare()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = _dtype(request.precision, device)
    pictures = lora_photos.find(request.photos, _caption(request.concept))
    side = request.resolution or lora_sheet.side_of(request.base)
    style = lora_sheet.recipe_of(request.base, request.concept)
    base = lora_base.load(
        request.base, rank=request.rank, seed=request.seed, dtype=dtype, device=device, min_snr=request.min_snr
    )
    least = 2 * base.factor
    if not least <= side <= MAX_SIDE or side % least:
        raise LoraError(f"--resolution is {side}, and has to be a multiple of {least} up to {MAX_SIDE} for this base")
    digest = _digest(request.base)
    arguments = _arguments(request, side, dtype, pictures, digest)
    kept = request.out / CHECKPOINT
    if kept.exists():
        _same(lora_fit.written_arguments(kept), arguments, request.out)
    request.out.mkdir(parents=True, exist_ok=True)  # rather fail now than at the first checkpoint
    with _bars(console) as bars:
        reading = bars.add_task("pictures", total=len(pictures.items), note="")
        examples = lora_fit.prepare(base, pictures, side, lambda: bars.advance(reading))
        _set_aside(base, "cpu")
        fit = lora_fit.Fit(base, examples, batch=request.batch, learning_rate=request.learning_rate, seed=request.seed)
        before = fit.fixed_loss()
        if kept.exists():
            fit.load(kept)
        _steps(fit, request, arguments, bars)
        after = fit.fixed_loss()
        lora = _save(base, request)
        _set_aside(base, device.type)
        base.pipe.vae.to(dtype=dtype)
        lora_sheet.wear(base.pipe, base.denoiser, lora)
        if shown := pictures.items[: request.sheet]:
            drawing = bars.add_task("sample sheet", total=len(shown) * len(lora_sheet.SCALES), note="")
            sheet = lora_sheet.draw(base.pipe, shown, style, side, request.seed, lambda: bars.advance(drawing))
            lora_fit.write(request.out / SHEET, _png(sheet))
    summary = {
        "concept": request.concept,
        "lora": {"file": f"{LORAS}/{lora.name}", "bytes": lora.stat().st_size, "digest": _sha256(lora)},
        "base": {"version": request.base.resolve().name, "pipeline": type(base.pipe).__name__, "digest": digest},
        "pictures": {"count": len(pictures.items), "digest": pictures.digest},
        "arguments": arguments | {"steps": fit.progress.step},
        "fixed_loss": {"before": before, "after": after},
        "losses": fit.progress.losses,
        "micro_batch": fit.micro,
        "gradient_checkpointing": fit.recomputes,
        "seconds": round(time.monotonic() - began, 1),
        "machine": _machine(device),
    }
    lora_fit.write(request.out / SUMMARY, (json.dumps(summary, indent=2) + "\n").encode())
    placed = "it stays there until you --install it"
    if request.install:
        target = request.base / LORAS / lora.name
        lora_fit.write(target, lora.read_bytes())
        placed = f"{target} draws from now on"
    console.print(
        escape(
            f"{lora}: {lora.stat().st_size / 1e6:.1f} MB; the loss over fixed noise: {before:.4f}, now {after:.4f}; "
            f"{placed}. Run, summary and sample sheet: {request.out}"
        )
    )


def _steps(fit: Fit, request: Request, arguments: dict[str, str | int | float], bars: Progress) -> None:
    task = bars.add_task("training", total=request.steps, completed=fit.progress.step, note="")
    while fit.progress.step < request.steps:
        loss = fit.step()
        bars.update(task, advance=1, note=f"loss {loss:.4f}")
        if fit.progress.step % request.checkpoint_every == 0 or fit.progress.step == request.steps:
            fit.save(request.out / CHECKPOINT, arguments)


def _save(base: Base, request: Request) -> Path:
    folder = request.out / LORAS
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{request.concept}.safetensors"
    try:
        with TemporaryDirectory(dir=folder, prefix=".") as staging:
            base.save(Path(staging), name)
            (Path(staging) / name).replace(folder / name)
    except SafetensorError as error:
        raise OSError(errno.ENOSPC, str(error), str(folder)) from error
    return folder / name


def _arguments(
    request: Request, side: int, dtype: torch.dtype, pictures: Pictures, base: str
) -> dict[str, str | int | float]:
    """All that a run's weights depend on, but for the number of steps."""
    return {
        "concept": str(request.concept),
        "rank": request.rank,
        "batch": request.batch,
        "resolution": side,
        "lr": request.learning_rate,
        "min_snr": request.min_snr,
        "seed": request.seed,
        "precision": str(dtype).removeprefix("torch."),
        "base": base,
        "photos": pictures.digest,
    }


def _same(old: dict[str, str | int | float], new: dict[str, str | int | float], out: Path) -> None:
    for name, value in new.items():
        if old.get(name) == value:
            continue
        if name in {"base", "photos"}:
            raise LoraError(f"the run in {out} was begun with other {name}: restore them, or name another folder")
        flag = name.replace("_", "-")
        raise LoraError(f"the run in {out} was begun with --{flag} {old.get(name)}, and now it is {value}")


def _caption(concept: Concept) -> str:
    """What the service itself asks of its model for the concept, so that these words call up the style."""
    return OwnPrompts.load().render(concept, Description(prompt="", keywords=[], tags=[], mood=""))


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp16" and device.type == "cpu":
        raise LoraError("--precision fp16 wants a GPU; on a CPU take fp32, or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def _set_aside(base: Base, device: str) -> None:
    """Move all but the denoiser: text encoders and VAE are not needed while it learns."""
    for part in base.pipe.components.values():
        if isinstance(part, torch.nn.Module) and part is not base.denoiser:
            part.to(device)


def _digest(folder: Path) -> str:
    """`sha256:` of names and contents. LoRAs are left out: installing one makes no other base."""
    whole = hashlib.sha256()
    for path in files(folder):
        where = path.relative_to(folder)
        if where.parts[0] != LORAS:
            whole.update(os.fsencode(where) + f"\0{_sha256(path)}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _png(picture: Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def _machine(device: torch.device) -> dict[str, str]:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else f"cpu, {torch.get_num_threads()} threads",
        "peak_memory": f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB" if cuda else "",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "diffusers", "peft", "transformers")},
    }


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
    )
