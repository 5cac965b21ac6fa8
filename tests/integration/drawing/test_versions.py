"""Versions of the drawing model side by side: switched under load, and what is broken is refused with its reason."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deskterior.errors import CustomModelMissing
from deskterior.schemas import Concept
from runners import models as command
from runners.diffusion import engine as diffusion_engine
from runners.diffusion.engine import DrawingModel
from runners.diffusion.versions import ModelFolder
from runners.drawing_engine import LocalDrawing
from runners.drawing_placement import PACKAGES
from runners.drawing_state import check_usable
from tests import tiny_diffusion
from tests.drawing import Checkpoints, Gate, Hook, apart, request, told, until
from tests.integration.drawing.spoiled import (
    nan_in_one,
    spoil_index,
    spoil_weights,
    truncate,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_version_is_switched_under_load_and_no_request_is_lost(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models, "1")
    drawing = opened(drawing_max_batch=2)
    first = await drawing.draw(request())
    hook, gate = Hook(drawing), Gate()
    hook.do = gate
    held = asyncio.ensure_future(drawing.draw(request()))
    await gate.until_reached()
    waiting = [asyncio.ensure_future(drawing.draw(request(of=at))) for at in range(6)]
    await until(lambda: len(drawing.queue) == 6)
    tiny_diffusion.write_sd(models / ".2", seed=9)
    (models / ".2" / "deskterior.toml").write_text("[defaults]\nsteps = 6\nstrength = 0.5\n")
    (models / ".2").rename(models / "2")
    ModelFolder(models).activate("2")
    loaded = asyncio.ensure_future(drawing.refresh())
    await until(lambda: drawing._switching.turn.locked() and bool(drawing._switching.turn._waiters))
    gate.open.set()
    await loaded
    assert (await held).version == "1"
    assert {(await each).version for each in waiting} == {"2"}
    after = await drawing.draw(request())
    assert after.version == "2"
    assert apart(first, after) > 0
    assert told((await drawing.info()).versions) == {"1": (False, ""), "2": (True, "")}
    ModelFolder(models).activate("1")
    await drawing.refresh()
    again = await drawing.draw(request())
    assert (again.version, again.image) == ("1", first.image)


async def test_the_watch_follows_by_itself(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models, "1")
    drawing = opened()
    assert (await drawing.draw(request())).version == "1"
    checkpoints.install(models, "2", "turbo")
    ModelFolder(models).activate("2")
    async with asyncio.timeout(60):
        while (await drawing.draw(request())).version != "2":
            pass


async def test_without_what_a_model_runs_on_that_is_said(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.install(models)
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    drawing = opened()
    await drawing.refresh()
    with pytest.raises(CustomModelMissing, match=r"requirements-gpu\.txt"):
        await drawing.draw(request())
    with pytest.raises(CustomModelMissing, match=r"requirements-gpu\.txt"):
        check_usable(await drawing.info())
    assert await drawing.check() == "no usable model"


async def test_two_versions_and_none_active_is_said(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    checkpoints.install(models, "1")
    checkpoints.install(models, "2")
    drawing = opened()
    with pytest.raises(CustomModelMissing, match=r"none is active: 1, 2.*activate VERSION"):
        await drawing.draw(request())
    assert all("none is active" in problem for _, problem in told((await drawing.info()).versions).values())


async def test_half_a_copy_is_not_loaded(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.install(models, "1")
    drawing = opened()
    await drawing.refresh()
    switching = drawing._switching
    assert drawing._watcher is None  # looks are ours here
    loads: list[str] = []
    load = DrawingModel.load.__func__  # type: ignore[attr-defined]

    def counted(cls: Any, version: Any, options: Any) -> Any:
        loads.append(version.name)
        return load(cls, version, options)

    monkeypatch.setattr(DrawingModel, "load", classmethod(counted))
    ModelFolder(models).activate("1")
    for part in sorted(checkpoints.get("sd").iterdir()):
        target = models / "1" / f"copy-{part.name}"
        shutil.copytree(part, target) if part.is_dir() else shutil.copy(part, target)
        await switching.look()
    assert loads == []
    await switching.look()
    assert loads == ["1"]


async def test_files_that_change_beneath_a_loaded_model_do_it_no_harm(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    folder = checkpoints.install(models)
    drawing = opened()
    before = await drawing.draw(request())
    whole = (await drawing.info()).versions[0].digest
    for path in folder.rglob("*.safetensors"):  # in place: a view of such a file would end the process
        with path.open("r+b") as file:
            file.truncate(10)
    await drawing.refresh()
    assert (await drawing.draw(request())).image == before.image
    loaded, changed = (await drawing.info()).versions
    assert (loaded.version, loaded.active, loaded.problem, loaded.digest) == ("1", True, "", whole)
    assert (changed.version, changed.active) == ("1", False)
    assert "cut short" in changed.problem
    shutil.rmtree(folder)
    await drawing.refresh()
    assert (await drawing.draw(request())).image == before.image
    assert [version.active for version in (await drawing.info()).versions] == [True]


async def test_a_scheduler_that_wants_several_steps_at_least_is_no_reason_to_refuse(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    folder = checkpoints.install(models)
    spoil_index(scheduler=["diffusers", "PNDMScheduler"])(folder)
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "PNDMScheduler"}')
    assert (await opened().draw(request())).version == "1"


async def test_a_recipe_changed_in_place_is_followed(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing]
) -> None:
    folder = checkpoints.install(models)
    drawing = opened()
    steps: list[int] = []
    await drawing.draw(request(), lambda _, total: steps.append(total))
    (folder / "deskterior.toml").write_text("[defaults]\nsteps = 5\nstrength = 1.0\n")
    await drawing.refresh()
    await drawing.draw(request(), lambda _, total: steps.append(total))
    assert steps == [3] * 3 + [5] * 5


async def no_room_for_two(
    models: Path, checkpoints: Checkpoints, drawing: LocalDrawing, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What is loaded and unloaded, from here on, where memory has room for one."""
    told: list[str] = []
    load, close = DrawingModel.load.__func__, DrawingModel.close  # type: ignore[attr-defined]

    def loading(cls: Any, version: Any, options: Any) -> Any:
        told.append(f"load {version.name}")
        return load(cls, version, options)

    def closing(model: DrawingModel) -> None:
        told.append(f"unload {model.version.name}")
        close(model)

    monkeypatch.setattr(DrawingModel, "load", classmethod(loading))
    monkeypatch.setattr(DrawingModel, "close", closing)
    monkeypatch.setattr(diffusion_engine, "fits_beside", lambda *_: False)
    return told


async def test_without_room_for_two_the_old_one_goes_first(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.install(models, "1")
    drawing = opened()
    await drawing.draw(request())
    happened = await no_room_for_two(models, checkpoints, drawing, monkeypatch)
    checkpoints.install(models, "2")
    ModelFolder(models).activate("2")
    switched = asyncio.ensure_future(drawing.refresh())
    drawn = await asyncio.gather(*(drawing.draw(request(at)) for at in range(4)))
    await switched
    assert {each.version for each in drawn} <= {"1", "2"}
    assert (await drawing.draw(request())).version == "2"
    assert happened == ["unload 1", "load 2"]


async def test_without_room_for_two_the_old_one_comes_back_when_the_new_one_fails(
    models: Path, checkpoints: Checkpoints, opened: Callable[..., LocalDrawing], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.install(models, "1")
    drawing = opened()
    await drawing.draw(request())
    happened = await no_room_for_two(models, checkpoints, drawing, monkeypatch)
    spoil_weights("vae", nan_in_one)(checkpoints.install(models, "2"))
    ModelFolder(models).activate("2")
    switched = asyncio.ensure_future(drawing.refresh())
    drawn = await asyncio.gather(*(drawing.draw(request(at)) for at in range(4)))
    await switched
    assert {each.version for each in drawn} == {"1"}
    assert happened == ["unload 1", "load 2", "load 1"]
    assert told((await drawing.info()).versions)["1"] == (True, "")
    assert "NaN" in told((await drawing.info()).versions)["2"][1]


# the command


async def test_the_command_lists_checks_activates_and_removes(
    models: Path, checkpoints: Checkpoints, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        status = command.main(["--folder", str(models), *arguments])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    assert run("list") == (
        0,
        f"There is no version in {models}. A version is a folder with model_index.json and safetensors.\n",
    )
    assert run("check")[0] == 2
    checkpoints.install(models, "good")
    truncate(checkpoints.install(models, "bad"))
    status, text = run("list")
    assert status == 1
    assert "none is active" in text
    assert "StableDiffusionPipeline" in text
    assert "LoRA: OIL" in text
    assert "cannot be used: unet" in text
    status, text = run("activate", "bad")
    assert status == 1
    assert "cut short" in text
    assert not (models / "active").exists()
    status, text = run("activate", "good")
    assert status == 0
    assert text.startswith("good: loading ...\n")
    assert text.endswith("good: draws. StableDiffusionImg2ImgPipeline on cpu (float32)\ngood is active\n")
    assert "* good  sha256:" in run("list")[1]
    assert run("check")[0] == 1
    assert run("check", "good")[0] == 0
    assert run("remove", "good")[0] == 2
    assert run("activate", "none")[0] == 2
    assert run("activate", "bad", "--unchecked") == (0, "bad is active\n")
    assert run("remove", "good") == (0, "good is deleted\n")
    assert not (models / "good").exists()


async def test_adapters_by_concept_are_told_of_every_version(one: LocalDrawing) -> None:
    (version,) = (await one.info()).versions
    assert version.loras == [Concept.OIL.value]
    assert version.family == "StableDiffusionImg2ImgPipeline"
