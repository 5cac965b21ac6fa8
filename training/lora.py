"""``python -m training lora``: a LoRA for a concept from a folder of pictures, ready to be drawn with.

A run is a folder: the checkpoint it goes on from after a crash, the LoRA in diffusers' format, a sample sheet and a
summary. Nothing in it is ever half written.
"""

from __future__ import annotations

import argparse
import errno
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from deskterior.schemas import Concept
from training.lora_photos import LoraError

RUNS = Path("runs")
CHECKPOINT = "checkpoint.safetensors"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Request:
    """What the command was asked for, checked."""

    base: Path
    photos: Path
    concept: Concept
    out: Path
    rank: int
    steps: int
    batch: int
    resolution: int | None
    learning_rate: float
    min_snr: float
    seed: int
    precision: str
    checkpoint_every: int
    sheet: int
    resume: bool
    install: bool


def add_command(command: argparse.ArgumentParser) -> None:
    def number(name: str, kind: type, default: float, text: str) -> None:
        command.add_argument(name, type=kind, default=default, metavar="N", help=f"{text} (default {default:g})")

    command.add_argument(
        "--base", type=Path, required=True, metavar="FOLDER", help="the diffusers checkpoint it is for"
    )
    command.add_argument("--photos", type=Path, required=True, metavar="FOLDER", help="pictures, with captions in .txt")
    command.add_argument("--concept", required=True, help=", ".join(Concept))
    command.add_argument("--out", type=Path, metavar="FOLDER", help="of the run (default: runs/, by date and time)")
    command.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, or the newest of the concept"
    )
    command.add_argument("--install", action="store_true", help="put the LoRA into the base's folder when it is done")
    number("--rank", int, 8, "of the LoRA's matrices")
    number("--steps", int, 500, "of training, in all")
    number("--batch", int, 4, "pictures a step")
    command.add_argument(
        "--resolution", type=int, metavar="N", help="side in pixels (default: as the base is drawn with)"
    )
    number("--lr", float, 1e-4, "learning rate")
    number("--min-snr", float, 5.0, "cuts the weight of nearly clean pictures; 0 does not")
    number("--seed", int, 0, "of everything left to chance")
    number("--checkpoint-every", int, 50, "steps")
    number("--sheet", int, 3, "photos in the sample sheet; 0 makes none")
    command.add_argument(
        "--precision", choices=PRECISIONS, default="auto", help="auto: bf16 or fp16 on CUDA, fp32 on a CPU"
    )


def run(options: argparse.Namespace) -> int:
    """The command. Returns the exit status: 2 for what the user can mend, said in one message; 130 for Ctrl-C."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        request = _checked(options)
        from training import lora_run

        lora_run.train(request, console)
    except LoraError as error:
        console.print(f"[red]error:[/] {_shown(str(error))}")
        return 2
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        hint = "; the run's last checkpoint is whole: free some room and --resume" if full else ""
        console.print(
            f"[red]error:[/] {_shown(f'{error.strerror or error}: {error.filename or options.out or RUNS}{hint}')}"
        )
        return 2
    except KeyboardInterrupt:
        console.print("stopped; the same command with --resume goes on from the last checkpoint")
        return 130
    return 0


def _shown(text: str) -> str:
    """Fit for a terminal: names on a disk need not be UTF-8."""
    return escape(text.encode("utf-8", "replace").decode())


def _checked(options: argparse.Namespace) -> Request:
    if options.concept not in Concept.__members__:
        raise LoraError(f"there is no concept {options.concept!r}; there are {', '.join(Concept)}")
    for name, least in {"rank": 1, "steps": 1, "batch": 1, "seed": 0, "checkpoint_every": 1, "sheet": 0}.items():
        if getattr(options, name) < least:
            raise LoraError(f"--{name.replace('_', '-')} is {getattr(options, name)}, and has to be at least {least}")
    if not (math.isfinite(options.lr) and options.lr > 0):
        raise LoraError(f"--lr is {options.lr}, and has to be more than 0")
    if not (math.isfinite(options.min_snr) and options.min_snr >= 0):
        raise LoraError(f"--min-snr is {options.min_snr}, and has to be 0 or more")
    if not options.base.is_dir():
        raise LoraError(f"there is no folder {options.base}; --base is a diffusers checkpoint, with model_index.json")
    concept = Concept(options.concept)
    return Request(
        base=options.base,
        photos=options.photos,
        concept=concept,
        out=_run_folder(options.out, concept, resume=options.resume),
        rank=options.rank,
        steps=options.steps,
        batch=options.batch,
        resolution=options.resolution,
        learning_rate=options.lr,
        min_snr=options.min_snr,
        seed=options.seed,
        precision=options.precision,
        checkpoint_every=options.checkpoint_every,
        sheet=options.sheet,
        resume=options.resume,
        install=options.install,
    )


def _run_folder(out: Path | None, concept: Concept, *, resume: bool) -> Path:
    if out is None and resume:
        found = sorted(path.parent for path in RUNS.glob(f"lora-{concept}-*/{CHECKPOINT}"))
        if not found:
            raise LoraError(f"no run of {concept} in {RUNS} has come to a checkpoint: there is nothing to go on with")
        return found[-1]
    if out is None:
        return RUNS / f"lora-{concept}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if (out / CHECKPOINT).exists() and not resume:
        raise LoraError(f"{out} holds a run: go on with it by --resume, or name another folder")
    return out
