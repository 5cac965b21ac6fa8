"""Teaching the tiny drawing model a concept, end to end: what is learnt, what survives a crash, what is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.photographs import encoded, scene
from training import lora_base, lora_fit, lora_photos, tiny
from training.__main__ import main

# diffusers' own, of NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    for family in tiny.FAMILIES:
        tiny.make(folder / family, family)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(encoded(scene(80 + 16 * number, 64)))
    (folder / "1.txt").write_text("oil painting of four colours", encoding="utf-8")
    return folder


def learn(base: Path, photos: Path, out: Path, **more: object) -> int:
    given = {"concept": "OIL", "rank": 4, "steps": 4, "batch": 2, "resolution": 32, "lr": 0.01, "sheet": 0} | more
    parts = ["lora", "--base", str(base), "--photos", str(photos), "--out", str(out)]
    for name, value in given.items():
        parts += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return main(parts)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "loras/OIL.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def summary(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_lora_learns_and_diffusers_draws_otherwise_with_it(
    bases: Path, photos: Path, tmp_path: Path, family: tiny.Family
) -> None:
    assert learn(bases / family, photos, tmp_path, steps=30, sheet=1, lr=0.02) == 0
    found = summary(tmp_path)
    assert found["fixed_loss"]["after"] < found["fixed_loss"]["before"]
    assert len(found["losses"]) == 30
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (5 * 32, 24 + 32)
        columns = [np.asarray(sheet.crop((32 * at, 24, 32 * at + 32, 56))) for at in range(5)]
    assert len({column.tobytes() for column in columns}) == 5

    auto = diffusers.AutoPipelineForInpainting if family == "inpaint" else diffusers.AutoPipelineForImage2Image
    pipe = auto.from_pretrained(bases / family, use_safetensors=True, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    photo = scene(32, 32)
    more = {"mask_image": Image.new("L", photo.size, 255)} if family == "inpaint" else {}

    def drawn() -> bytes:
        with torch.inference_mode():
            made: Image.Image = pipe(
                prompt="a desk",
                image=photo,
                width=32,
                height=32,
                strength=0.8,
                num_inference_steps=5,
                generator=torch.Generator().manual_seed(0),
                **more,
            ).images[0]
        return made.tobytes()

    plain = drawn()
    pipe.load_lora_weights(tmp_path / "loras", weight_name="OIL.safetensors")
    assert drawn() != plain
    pipe.unload_lora_weights()
    assert drawn() == plain


def test_the_same_command_makes_the_same_bytes_and_another_seed_does_not(
    bases: Path, photos: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert learn(bases / "sd15", photos, tmp_path / name, seed=seed) == 0
    first, again, other = ((tmp_path / name / "loras/OIL.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first != other
    assert summary(tmp_path / "a")["lora"]["digest"] == summary(tmp_path / "b")["lora"]["digest"]


def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(bases: Path, photos: Path, tmp_path: Path) -> None:
    assert learn(bases / "sdxl", photos, tmp_path / "whole", steps=7) == 0
    assert learn(bases / "sdxl", photos, tmp_path / "parts", steps=3) == 0
    assert learn(bases / "sdxl", photos, tmp_path / "parts", steps=7, resume=True) == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    for name in ("losses", "fixed_loss"):
        assert summary(tmp_path / "whole")[name] == summary(tmp_path / "parts")[name]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are the same to the last bit only where they are split alike."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_a_run_killed_at_any_moment_goes_on_to_the_same_weights(bases: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "training", "lora", "--base", str(bases / "sd15"), "--photos", str(photos)]
    command += ["--concept", "OIL", "--out", str(out), "--rank", "4", "--steps", "100000", "--batch", "2"]
    command += ["--resolution", "32", "--lr", "0.01", "--checkpoint-every", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=environment) as run,
    ):
        deadline = time.monotonic() + 120
        while not (out / "checkpoint.safetensors").exists():
            assert run.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    reached = len(load_file(out / "checkpoint.safetensors")["losses"])
    assert not (out / "loras").exists()
    assert learn(bases / "sd15", photos, out, steps=reached + 2, resume=True) == 0
    assert learn(bases / "sd15", photos, tmp_path / "whole", steps=reached + 2) == 0
    assert same(weights(out), weights(tmp_path / "whole"))


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_where_memory_ends_less_is_computed_at_a_time_and_the_same_is_learnt(
    bases: Path, photos: Path, family: str
) -> None:
    def run(most: int) -> lora_fit.Fit:
        device = torch.device("cpu")
        base = lora_base.load(bases / family, rank=4, seed=0, dtype=torch.float32, device=device, min_snr=5)

        def out_of_memory(_: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
            if len(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]) > most:
                raise torch.OutOfMemoryError("no room")

        base.denoiser.register_forward_pre_hook(out_of_memory, with_kwargs=True)
        examples = lora_fit.prepare(base, lora_photos.find(photos, "a desk"), 32, lambda: None)
        fit = lora_fit.Fit(base, examples, batch=4, learning_rate=0.01, seed=0)
        for _ in range(2):
            fit.step()
        return fit

    roomy, tight = run(4), run(1)
    assert (roomy.micro, roomy.recomputes) == (4, False)
    assert (tight.micro, tight.recomputes) == (1, True)
    assert tight.progress.losses == pytest.approx(roomy.progress.losses, rel=1e-4)
    with pytest.raises(lora_photos.LoraError, match="out of memory with one picture"):
        run(0)


def test_weights_never_become_anything_but_numbers(bases: Path, photos: Path) -> None:
    device = torch.device("cpu")
    base = lora_base.load(bases / "sd15", rank=4, seed=0, dtype=torch.float32, device=device, min_snr=5)
    examples = lora_fit.prepare(base, lora_photos.find(photos, "a desk"), 32, lambda: None)
    fit = lora_fit.Fit(base, examples, batch=2, learning_rate=0.01, seed=0)
    fit.step()
    weight = next(iter(base.trained().values()))
    weight.register_hook(lambda gradient: gradient * float("inf"))  # type: ignore[no-untyped-call]
    with pytest.raises(lora_photos.LoraError, match="no number any more at step 2"):
        fit.step()
    assert all(bool(torch.isfinite(each).all()) for each in base.trained().values())


def test_velocity_is_learnt_too(bases: Path, photos: Path, tmp_path: Path) -> None:
    base = tmp_path / "v"
    shutil.copytree(bases / "sd15", base)
    config = base / "scheduler/scheduler_config.json"
    asked = json.loads(config.read_text()) | {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    config.write_text(json.dumps(asked))
    assert learn(base, photos, tmp_path / "out", steps=30, lr=0.02) == 0
    loss = summary(tmp_path / "out")["fixed_loss"]
    assert loss["after"] < loss["before"]


def test_the_loss_of_a_perfect_denoiser_is_nothing_whatever_it_predicts(bases: Path) -> None:
    """The noise and the velocity that the loss wants are those from which diffusers' own schedulers undo a step."""
    device = torch.device("cpu")
    for predicts in ("epsilon", "v_prediction"):
        base = lora_base.load(bases / "sd15", rank=4, seed=0, dtype=torch.float32, device=device, min_snr=0)
        assert isinstance(base, lora_base.UNetBase)
        base.predicts = predicts
        scheduler = diffusers.DDPMScheduler.from_config(base.pipe.scheduler.config, prediction_type=predicts)
        latents, noise = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16)
        when = torch.tensor([0.2, 0.9])
        steps = (when * 1000).long()
        wanted = noise if predicts == "epsilon" else scheduler.get_velocity(latents, noise, steps)
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []

        def perfect(given: torch.Tensor, at: torch.Tensor, *_: object, wanted: Any = wanted, seen: Any = seen) -> Any:
            seen.append((given, at))
            return type("Output", (), {"sample": wanted})

        base.denoiser = perfect
        losses = base.losses(latents, lora_base.Noise(noise, when), lora_base.Texts(latents, None), latents)
        assert losses.abs().max() < 1e-10
        assert torch.allclose(seen[0][0], scheduler.add_noise(latents, noise, steps), atol=1e-6)
        assert seen[0][1].tolist() == [200, 900]


def test_install_puts_the_lora_beside_the_base_and_a_second_run_may_go_on(
    bases: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases / "sd15", base)
    assert learn(base, photos, tmp_path / "out", install=True) == 0
    assert "draws from now on" in capsys.readouterr().out
    installed = base / "loras/OIL.safetensors"
    assert installed.read_bytes() == (tmp_path / "out/loras/OIL.safetensors").read_bytes()
    assert [path.name for path in installed.parent.iterdir()] == ["OIL.safetensors"]
    assert learn(base, photos, tmp_path / "out", steps=6, resume=True) == 0


def test_a_run_is_neither_overwritten_nor_continued_as_another_one(
    bases: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert learn(bases / "sd15", photos, out) == 0
    kept = (out / "checkpoint.safetensors").read_bytes()
    assert learn(bases / "sd15", photos, out) == 2
    assert "go on with it by --resume" in capsys.readouterr().out
    assert learn(bases / "sd15", photos, out, resume=True, rank=8) == 2
    assert "was begun with --rank 4, and now it is 8" in capsys.readouterr().out
    assert learn(bases / "inpaint", photos, out, resume=True) == 2
    assert "was begun with other base" in capsys.readouterr().out
    assert (out / "checkpoint.safetensors").read_bytes() == kept
    (out / "checkpoint.safetensors").write_bytes(kept[:1000])
    assert learn(bases / "sd15", photos, out, resume=True) == 2
    assert "is no checkpoint" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"concept": "WATERCOLOUR"}, "there are BASIC, CARTOON, SIMPLE, OIL, MSPAINT"),
        ({"rank": 0}, "--rank is 0"),
        ({"steps": -1}, "--steps is -1"),
        ({"lr": "nan"}, "--lr is nan"),
        ({"min_snr": -1}, "--min-snr is -1"),
        ({"seed": -1}, "--seed is -1"),
        ({"resolution": 33}, "multiple of 4"),
        ({"resolution": -32}, "multiple of 4"),
        ({"resolution": 100_000}, "up to 4096"),
        ({"precision": "fp16"}, "fp16 wants a GPU"),
        ({"lr": 1e30, "steps": 50}, "the loss is no number any more"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    bases: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, object], said: str
) -> None:
    assert learn(bases / "sd15", photos, tmp_path, **given) == 2
    shown = capsys.readouterr().out
    assert said in shown.replace("\n", " ")
    assert "Traceback" not in shown


def test_a_name_that_no_terminal_shows_is_told_all_the_same(
    bases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert learn(bases / "sd15", Path("/\udcc7"), tmp_path) == 2
    assert "there is no folder /?" in capsys.readouterr().out


def _no_unet(base: Path) -> None:
    shutil.rmtree(base / "unet")


def _other_kind(base: Path) -> None:
    index = base / "model_index.json"
    asked = json.loads(index.read_text())
    asked["transformer"] = ["diffusers", "SD3Transformer2DModel"]
    del asked["unet"]
    index.write_text(json.dumps(asked))
    (base / "unet").rename(base / "transformer")


def _cut(base: Path) -> None:
    weights = base / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _pickle(base: Path) -> None:
    (base / "unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04N.")


def _other_weights(base: Path) -> None:
    save_file({"a": torch.zeros(3)}, base / "vae/diffusion_pytorch_model.safetensors")


def _edm(base: Path) -> None:
    index = base / "model_index.json"
    index.write_text(index.read_text().replace("DDIMScheduler", "EDMEulerScheduler"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_no_unet, "unet"),
        (_other_kind, "SD3Transformer2DModel, for which no loss is known here"),
        (_cut, "it is cut short"),
        (_pickle, "pickle"),
        (_other_weights, "vae/ lacks"),
        (_edm, "EDMEulerScheduler, has another loss"),
        (shutil.rmtree, "there is no folder"),
    ],
)
def test_a_base_that_cannot_be_taught_is_refused_with_the_reason(
    bases: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Any, said: str
) -> None:
    base = tmp_path / "base"
    shutil.copytree(bases / "sd15", base)
    damage(base)
    assert learn(base, photos, tmp_path / "out") == 2
    assert said in capsys.readouterr().out.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_the_run_with_a_sentence_and_leaves_nothing_half_written(
    bases: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    caught = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        assert learn(bases / "sd15", photos, tmp_path / "out") == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, caught)
    assert "free some room and --resume" in capsys.readouterr().out.replace("\n", " ")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_learnt(
    bases: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    assert learn(bases / "sd15", photos, tmp_path / "file") == 2
    assert "File exists" in capsys.readouterr().out
    assert (tmp_path / "file").read_bytes() == b"kept"
