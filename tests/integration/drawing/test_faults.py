"""Our own drawing model when something fails: that picture alone, by a name, and the next one is drawn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deskterior.errors import PhotoUnreadable, RunnerFailed
from runners.drawing import DrawnPicture, DrawRequest
from runners.drawing_engine import LocalDrawing
from tests.drawing import (
    SAME,
    STEPS,
    Checkpoints,
    Gate,
    Hook,
    apart,
    photo,
    request,
    until,
)

# One loop for all: a model is loaded once, and most tests draw with the same.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_network")]


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 7 GiB"),
        ("AcceleratorError", "CUDA error: out of memory"),
        ("AcceleratorError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
async def test_out_of_memory_fails_that_picture_and_the_next_one_is_drawn(
    sd: LocalDrawing, hook: Hook, kind: str, told: str
) -> None:
    import torch

    def full(_: int) -> None:
        raise getattr(torch, kind)(told)

    hook.do = full
    with pytest.raises(RunnerFailed, match="out of memory") as failed:
        await sd.draw(request())
    assert failed.value.__traceback__ is not None
    assert "hook" not in repr(failed.value)
    hook.do = lambda _: None
    assert (await sd.draw(request())).image


async def test_a_batch_too_large_for_memory_is_drawn_one_by_one_and_batches_shrink(own: LocalDrawing) -> None:
    hook = Hook(own)
    import torch

    expected = [await own.draw(request(at, of=at)) for at in range(4)]

    def full(many: int) -> None:
        if many > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(own.draw(request()))
    await gate.until_reached()
    steps: list[int] = []
    rest = [asyncio.ensure_future(own.draw(request(at, of=at), lambda done, _: steps.append(done))) for at in range(4)]
    await until(lambda: len(own.queue) == 4)
    hook.do = full
    gate.open.set()
    drawn = await asyncio.gather(*rest)
    await first
    assert all(apart(one, other) <= SAME for one, other in zip(drawn, expected, strict=True))
    assert hook.batches[-1 - 4 * STEPS :] == [4] + [1] * 4 * STEPS
    assert own._switching.model is not None
    assert own._switching.model.max_batch == 2
    assert sorted(steps) == [1] * 4 + [2] * 4 + [3] * 4


@pytest.mark.parametrize("error", [ValueError("kernel"), StopIteration(), SystemExit(3), AssertionError()])
async def test_a_crash_of_the_pipeline_fails_that_picture_alone(
    sd: LocalDrawing, hook: Hook, error: BaseException
) -> None:

    def crash(_: int) -> None:
        raise error

    hook.do = crash
    with pytest.raises(RunnerFailed, match="failed on this picture"):
        await sd.draw(request())
    hook.do = lambda _: None
    await sd.draw(request())
    assert (await sd.check()).startswith("ok (cpu (float32), 1)")


async def test_a_gpu_that_is_lost_is_said_to_the_health_check_and_to_whoever_can_restart(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    import torch

    checkpoints.install(models)
    restarts: list[int] = []
    drawing = opened(on_lost=lambda: restarts.append(1))
    await drawing.refresh()

    def lost(_: int) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    Hook(drawing).do = lost
    for _ in range(2):
        with pytest.raises(RunnerFailed, match="restarted"):
            await drawing.draw(request())
    with pytest.raises(RunnerFailed, match="restarted"):
        await drawing.check()
    assert restarts == [1]


async def test_what_the_models_own_safety_checker_withholds_is_an_error_with_a_name(
    sd: LocalDrawing, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook.model._pipeline, "run_safety_checker", lambda image, *_: (image * 0, [True] * len(image)))
    with pytest.raises(RunnerFailed, match="safety checker"):
        await sd.draw(request())


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "NaN"), (-1.0, "black")])
async def test_nan_and_black_are_errors_with_a_name(sd: LocalDrawing, value: float, word: str) -> None:
    model = sd._switching.model
    assert model is not None
    handle = model._pipeline.vae.decoder.register_forward_hook(lambda _module, _args, out: out * 0 + value)
    with pytest.raises(RunnerFailed, match=word):
        await sd.draw(request())
    handle.remove()
    assert (await sd.draw(request())).image


async def test_one_bad_picture_of_a_batch_fails_alone(sd: LocalDrawing, hook: Hook) -> None:
    model = sd._switching.model
    assert model is not None
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(sd.draw(request()))
    await gate.until_reached()
    rest = [asyncio.ensure_future(sd.draw(request(at))) for at in range(3)]
    await until(lambda: len(sd.queue) == 3)
    hook.do = lambda _: None

    def spoil(module: Any, args: Any, out: Any) -> Any:
        if len(out) == 3:
            out = out.clone()
            out[1] = float("nan")
        return out

    model._pipeline.vae.decoder.register_forward_hook(spoil)
    gate.open.set()
    await first
    results = await asyncio.gather(*rest, return_exceptions=True)
    assert isinstance(results[1], RunnerFailed)
    assert isinstance(results[0], DrawnPicture)
    assert isinstance(results[2], DrawnPicture)


@pytest.mark.parametrize("bad", [b"", b"no photo", b"\xff\xd8\xff" + bytes(50), photo()[:60], b"GIF89a" + bytes(40)])
async def test_a_photo_that_cannot_be_read_is_refused_before_it_waits(sd: LocalDrawing, hook: Hook, bad: bytes) -> None:
    with pytest.raises(PhotoUnreadable):
        await sd.draw(DrawRequest(bad, "a desk"))
    assert hook.batches == []


async def test_a_photo_over_the_pixel_limit_is_refused_undecoded(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models)
    with pytest.raises(PhotoUnreadable, match="pixels"):
        await opened(photo_max_pixels=10_000).draw(DrawRequest(photo(200, 200), ""))
