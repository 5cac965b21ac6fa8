"""Our own drawing model on tiny checkpoints: what is drawn, in which order, and what happens when something fails."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from deskterior.errors import CustomModelMissing, Invalid, Overloaded, PhotoUnreadable, RunnerFailed
from deskterior.schemas import Concept
from runners.diffusion.engine import DrawingModel
from runners.drawing import DrawnPicture, DrawRequest
from runners.drawing_engine import LocalDrawing
from runners.drawing_state import check_usable
from tests import tiny_diffusion
from tests.drawing import (
    FAMILIES,
    SAME,
    STEPS,
    Checkpoints,
    Gate,
    Hook,
    apart,
    engine,
    photo,
    pixels,
    request,
    until,
)

# One loop for all: a model is loaded once, and most tests draw with the same.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", autouse=True)
def no_network() -> Iterator[None]:
    """Whoever looks up a name or opens a connection fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was used")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sd(tmp_path_factory: pytest.TempPathFactory, checkpoints: Checkpoints) -> AsyncIterator[LocalDrawing]:
    """An SD 1.5 with an adapter for OIL, which tests leave as they found it."""
    models = tmp_path_factory.mktemp("models")
    checkpoints.install(models)
    drawing = engine(models)
    await drawing.refresh()
    yield drawing
    await drawing.aclose()


@pytest.fixture
def hook(sd: LocalDrawing) -> Iterator[Hook]:
    one = Hook(sd)
    yield one
    one.remove()


@pytest_asyncio.fixture(loop_scope="module")
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., LocalDrawing]]:
    """An engine of one's own, on the folder `models`."""
    made: list[LocalDrawing] = []

    def open_(**more: Any) -> LocalDrawing:
        made.append(engine(tmp_path / "models", **more))
        return made[-1]

    yield open_
    for each in made:
        await each.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def own(opened: Callable[..., LocalDrawing], models: Path, checkpoints: Checkpoints) -> LocalDrawing:
    """As `sd`, for a test that does not leave it as it was."""
    checkpoints.install(models)
    drawing = opened()
    await drawing.refresh()
    return drawing


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.mark.parametrize("family", FAMILIES)
async def test_every_family_draws_over_the_photo_in_its_shape(
    family: str, models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models, family, family)
    drawing = opened()
    steps: list[tuple[int, int]] = []
    first = await drawing.draw(request(), lambda done, total: steps.append((done, total)))
    assert Image.open(io.BytesIO(first.image)).format == "JPEG"
    assert (first.content_type, first.seed, first.version) == ("image/jpeg", 7, family)
    height, width, _ = pixels(first).shape
    assert width / height == pytest.approx(48 / 32, rel=0.05)
    assert width * height <= tiny_diffusion.SIDE**2
    assert [done for done, _ in steps] == list(range(1, steps[0][1] + 1))
    together = await asyncio.gather(*(drawing.draw(request(seed=seed, of=seed)) for seed in (1, 2, 3)))
    alone = await drawing.draw(request(seed=2, of=2))
    assert apart(together[1], alone) <= SAME
    assert apart(together[0], alone) > 3 * SAME
    (version,) = (await drawing.info()).versions
    assert (version.family, version.active, version.problem) == (FAMILIES[family][0], True, "")
    assert version.digest.startswith("sha256:")


async def test_the_same_seed_draws_the_same_and_another_does_not(sd: LocalDrawing) -> None:
    one, again, other = [await sd.draw(request(seed)) for seed in (5, 5, 6)]
    assert one.image == again.image
    assert apart(one, other) > SAME
    chosen = await sd.draw(request(None))
    assert chosen.seed is not None
    assert (await sd.draw(request(chosen.seed))).image == chosen.image
    words = await sd.draw(request(5, prompt="something else altogether"))
    assert apart(one, words) > 0


@pytest.mark.parametrize("seed", [-1, 2**63])
async def test_a_seed_that_is_none_is_refused(sd: LocalDrawing, seed: int) -> None:
    with pytest.raises(Invalid, match="seed"):
        await sd.draw(request(seed))


async def test_what_waits_is_drawn_in_batches_of_one_concept_and_size(sd: LocalDrawing, hook: Hook) -> None:
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(sd.draw(request()))
    await gate.until_reached()
    kinds = [Concept.OIL, Concept.CARTOON, Concept.OIL, Concept.CARTOON, Concept.OIL]
    rest = [asyncio.ensure_future(sd.draw(request(at, kind))) for at, kind in enumerate(kinds)]
    tall = asyncio.ensure_future(sd.draw(DrawRequest(photo(20, 60), "", Concept.OIL, 1)))
    await until(lambda: len(sd.queue) == 6)
    hook.do = lambda _: None
    gate.open.set()
    await asyncio.gather(first, *rest, tall)
    assert hook.batches == [1] * STEPS + [3] * STEPS + [2] * STEPS + [1] * STEPS


async def test_no_batch_is_larger_than_asked_for(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models)
    drawing = opened(drawing_max_batch=2)
    await drawing.refresh()
    hook = Hook(drawing)
    await asyncio.gather(*(drawing.draw(request(at)) for at in range(5)))
    assert max(hook.batches) <= 2


async def test_an_adapter_changes_its_concept_alone_and_loads_nothing_again(sd: LocalDrawing) -> None:
    model = sd._switching.model
    assert model is not None
    before = id(model._pipeline.unet)
    basic = await sd.draw(request(1, Concept.BASIC))
    oil = await sd.draw(request(1, Concept.OIL))
    basic_again = await sd.draw(request(1, Concept.BASIC))
    simple = await sd.draw(request(1, Concept.SIMPLE))
    oil_again = await sd.draw(request(1, Concept.OIL))
    assert apart(basic, oil) > 3 * SAME
    assert basic.image == basic_again.image == simple.image
    assert oil.image == oil_again.image
    assert (sd._switching.model, id(model._pipeline.unet)) == (model, before)
    assert (await sd.info()).versions[0].loras == ["OIL"]


async def test_what_an_adapters_file_says_of_its_alpha_is_heard(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    folder = checkpoints.install(models)
    for concept, alpha in (("OIL", 4), ("SIMPLE", 1)):
        tiny_diffusion.write_lora(folder / "loras" / f"{concept}.safetensors", folder, alpha=alpha)
    (folder / "deskterior.toml").write_text(
        "[defaults]\nsteps = 6\nstrength = 0.5\n[concepts.CARTOON]\nlora = 'loras/OIL.safetensors'\nlora_scale = 0.25\n"
    )
    drawing = opened()
    oil, simple, cartoon = [
        await drawing.draw(request(1, concept)) for concept in (Concept.OIL, Concept.SIMPLE, Concept.CARTOON)
    ]
    assert apart(oil, simple) > SAME
    assert apart(cartoon, simple) <= SAME  # a quarter by the recipe is a quarter by alpha over rank


async def test_a_concepts_own_words_are_drawn(sd: LocalDrawing) -> None:
    plain = await sd.draw(request(1, Concept.BASIC))
    cartoon = await sd.draw(request(1, Concept.CARTOON))
    said = await sd.draw(request(1, Concept.BASIC, prompt="cartoon a desk"))
    assert apart(plain, cartoon) > 0
    assert said.image == cartoon.image


async def test_what_was_cancelled_while_it_waited_is_never_drawn(sd: LocalDrawing, hook: Hook) -> None:
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(sd.draw(request()))
    await gate.until_reached()
    waiting = [asyncio.ensure_future(sd.draw(request(at))) for at in range(3)]
    await until(lambda: len(sd.queue) == 3)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert len(sd.queue) == 0
    hook.do = lambda _: None
    gate.open.set()
    await first
    assert hook.batches == [1, 1, 1]


async def test_a_batch_that_nobody_waits_for_any_more_ends_early(sd: LocalDrawing, hook: Hook) -> None:
    gate = Gate()
    hook.do = gate
    told: list[int] = []
    first = asyncio.ensure_future(sd.draw(request(), lambda done, _: told.append(done)))
    await gate.until_reached()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.open.set()
    await sd.draw(request(3))
    assert hook.batches == [1, 1, 1, 1]  # one step of the first, all three of the second
    assert told == []


async def test_a_batch_goes_on_for_those_who_still_wait(sd: LocalDrawing, hook: Hook) -> None:
    expected = await sd.draw(request(2))
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(sd.draw(request()))
    await gate.until_reached()
    leaves, stays = (asyncio.ensure_future(sd.draw(request(seed))) for seed in (1, 2))
    await until(lambda: len(sd.queue) == 2)

    def leave(many: int) -> None:
        if many == 2:
            leaves.cancel()

    hook.do = leave
    gate.open.set()
    await first
    assert apart(await stays, expected) <= SAME


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


@pytest.mark.parametrize(
    ("width", "height"), [(48, 32), (32, 48), (1, 1), (1000, 10), (10, 1000), (33, 31), (4000, 3000), (640, 37)]
)
async def test_any_shape_of_photo_comes_back_in_its_shape(sd: LocalDrawing, width: int, height: int) -> None:
    drawn = pixels(await sd.draw(DrawRequest(photo(width, height), "", seed=1)))
    assert drawn.shape[0] * drawn.shape[1] <= 1.05 * tiny_diffusion.SIDE**2
    exact = drawn.shape[0] * width / height
    assert abs(drawn.shape[1] - exact) <= max(1.0, width / height)


async def test_a_photo_on_its_side_is_drawn_upright(sd: LocalDrawing) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn = await sd.draw(DrawRequest(photo(48, 32, form="JPEG", exif=exif), ""))
    height, width, _ = pixels(drawn).shape
    assert height > width


@pytest.mark.parametrize("prompt", ["", "책상 위의 초록 식물", "\ud800", "x" * 100_000, "a\0b\n", "(((" * 50])
async def test_any_prompt_is_drawn(sd: LocalDrawing, prompt: str) -> None:
    assert (await sd.draw(request(prompt=prompt))).image


async def test_a_full_queue_is_said_at_once_and_empties_again(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models)
    drawing = opened(drawing_max_queue=2)
    await drawing.draw(request())
    hook, gate = Hook(drawing), Gate()
    hook.do = gate
    first = asyncio.ensure_future(drawing.draw(request()))
    await gate.until_reached()
    waiting = [asyncio.ensure_future(drawing.draw(request(at))) for at in range(2)]
    await until(lambda: len(drawing.queue) == 2)
    with pytest.raises(Overloaded, match="2 pictures") as full:
        await drawing.draw(request())
    assert full.value.retry_after == 1
    hook.do = lambda _: None
    gate.open.set()
    await asyncio.gather(first, *waiting)
    await drawing.draw(request())


async def test_closing_finishes_what_is_drawn_and_refuses_what_waits(own: LocalDrawing) -> None:
    hook = Hook(own)
    gate = Gate()
    hook.do = gate
    first = asyncio.ensure_future(own.draw(request()))
    await gate.until_reached()
    waits = asyncio.ensure_future(own.draw(request(1)))
    await until(lambda: len(own.queue) == 1)
    closing = asyncio.ensure_future(own.aclose())
    with pytest.raises(Overloaded, match="stopping"):
        await waits
    with pytest.raises(Overloaded, match="stopping"):
        await own.draw(request())
    gate.open.set()
    assert (await first).image
    await closing
    await own.aclose()


async def test_without_a_model_the_runner_is_up_and_says_what_to_put_where(
    models: Path, opened: Callable[..., LocalDrawing], checkpoints: Checkpoints
) -> None:
    drawing = opened()
    with pytest.raises(CustomModelMissing, match=r"model_index.json and safetensors.*CUSTOM_MODEL_DIR"):
        await drawing.draw(request())
    assert (await drawing.check(), (await drawing.info()).versions) == ("no model installed", [])
    (models / "realistic.ckpt").write_bytes(b"x")
    with pytest.raises(CustomModelMissing, match="single file"):
        await drawing.draw(request())
    with pytest.raises(CustomModelMissing, match=r"model_index\.json.*single file"):  # before anything is spent
        check_usable(await drawing.info())
    checkpoints.install(models)
    await until_drawn_by(drawing, "1")


async def until_drawn_by(drawing: LocalDrawing, version: str) -> DrawnPicture:
    """Draw until the version that was dropped in is noticed, as a client that tries again would."""
    async with asyncio.timeout(30):
        while True:
            try:
                drawn = await drawing.draw(request())
                if drawn.version == version:
                    return drawn
            except CustomModelMissing:
                await asyncio.sleep(0.01)


async def test_a_model_put_there_just_now_is_waited_for_before_the_watch_has_seen_it(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    drawing = opened()
    with pytest.raises(CustomModelMissing):
        await drawing.draw(request())
    checkpoints.install(models)
    assert (await drawing.draw(request())).version == "1"


async def test_requests_wait_for_a_model_that_is_still_loading(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: Any
) -> None:
    checkpoints.install(models)
    gate = Gate()
    load = DrawingModel.load.__func__  # type: ignore[attr-defined]

    def slowly(cls: Any, *given: Any) -> Any:
        gate(0)
        return load(cls, *given)

    monkeypatch.setattr(DrawingModel, "load", classmethod(slowly))
    drawing = opened()
    drawn = asyncio.ensure_future(drawing.draw(request()))
    await gate.until_reached()
    assert await drawing.check() == "loading"
    assert [(each.version, each.active) for each in (await drawing.info()).versions] == [("1", True)]
    assert not drawn.done()
    gate.open.set()
    assert (await drawn).version == "1"
