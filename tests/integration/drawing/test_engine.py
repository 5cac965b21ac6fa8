"""Our own drawing model on tiny checkpoints: what is drawn, of what, and in which batches."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deskterior.errors import CustomModelMissing, Invalid
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
    photo,
    pixels,
    request,
    until,
)

# One loop for all: a model is loaded once, and most tests draw with the same.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_network")]


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


async def test_without_a_model_the_runner_is_up_and_says_what_to_put_where(
    models: Path, opened: Callable[..., LocalDrawing], checkpoints: Checkpoints
) -> None:
    drawing = opened()
    with pytest.raises(CustomModelMissing, match=r"model_index.json and safetensors.*CUSTOM_MODEL_DIR"):
        await drawing.draw(request())
    assert (await drawing.check(), (await drawing.info()).versions) == ("no model installed", [])
    models.mkdir()  # noqa: ASYNC240 - nobody else waits
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
