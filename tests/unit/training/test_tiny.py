"""The tiny drawing model: whole, small, the same every time, and what it draws is still the photo."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from runners.diffusion import checkpoint
from tests.photographs import scene
from training import tiny
from training.__main__ import main

# diffusers' own, of NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_each_family_is_whole_small_and_draws_the_photo_it_was_given(tmp_path: Path, family: tiny.Family) -> None:
    folder = tiny.make(tmp_path / family, family)
    assert checkpoint.vet(folder).inpaints == (family == "inpaint")
    assert sum(map(len, contents(folder).values())) < 3_000_000
    auto = diffusers.AutoPipelineForInpainting if family == "inpaint" else diffusers.AutoPipelineForImage2Image
    pipe = auto.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    photo = scene(96, 64)
    more = {"mask_image": Image.new("L", photo.size, 255)} if family == "inpaint" else {}
    with torch.inference_mode():
        made = pipe(
            prompt="유화, a desk in oils",
            image=photo,
            width=96,
            height=64,
            strength=0.3,
            num_inference_steps=10,
            generator=torch.Generator().manual_seed(0),
            **more,
        ).images[0]
    assert made.size == photo.size
    assert made.tobytes() != photo.tobytes()
    assert np.corrcoef(np.asarray(made, float).ravel(), np.asarray(photo, float).ravel())[0, 1] > 0.95


def test_the_same_seed_makes_the_same_bytes_and_another_one_does_not(tmp_path: Path) -> None:
    first, again, other = (
        contents(tiny.make(tmp_path / name, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        tiny.STAMP,
    }
    assert not [name for name, data in first.items() if str(tmp_path).encode() in data]


def test_making_one_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    tiny.make(tmp_path / "tiny")
    assert torch.rand(1) == wanted


def test_one_that_is_there_is_kept_and_an_older_or_other_one_made_anew(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "tiny")
    kept = (folder / "unet/config.json").stat().st_mtime_ns
    assert (tiny.make(folder) / "unet/config.json").stat().st_mtime_ns == kept
    tiny.make(folder, "flux")
    assert checkpoint.vet(folder).class_name == "FluxImg2ImgPipeline"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"beach")
    assert main(["tiny", "--out", str(tmp_path)]) == 2
    assert "holds something else" in capsys.readouterr().out
    assert contents(tmp_path) == {"holiday.jpg": b"beach"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["tiny", "--out", str(tmp_path / "file/tiny")]) == 2
    assert "cannot make a tiny model" in capsys.readouterr().out


def test_the_command_says_how_to_draw_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiny", "--out", str(tmp_path / "a b/tiny")]) == 0
    assert f"CUSTOM_MODEL_DIR='{tmp_path}/a b' make serve" in capsys.readouterr().out
