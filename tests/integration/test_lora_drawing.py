"""From pictures to a drawn concept: tiny base -> LoRA -> the engine that serves, for that concept alone."""

from pathlib import Path

import pytest

from deskterior.schemas import Concept
from runners.diffusion.engine import DrawingModel, Item, Options
from runners.diffusion.versions import Version
from tests.photographs import encoded, scene
from training import tiny
from training.__main__ import main

# diffusers' own, of NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def drawn(base: Path, concept: Concept) -> bytes:
    model = DrawingModel.load(Version("tiny", base), Options(device="cpu"))
    (picture,) = model.draw(concept, [Item(scene(64, 64), "a desk", seed=1)])
    model.close()
    assert not isinstance(picture, Exception)
    return picture.tobytes()


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_an_installed_lora_changes_the_pictures_of_its_concept_and_no_others(
    tmp_path: Path, family: tiny.Family
) -> None:
    base = tiny.make(tmp_path / "custom/tiny", family)
    (base / "deskterior.toml").write_text("side = 64\n[defaults]\nsteps = 4\nstrength = 0.75\n")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(encoded(scene(64, 64)))
    before = {concept: drawn(base, concept) for concept in (Concept.OIL, Concept.CARTOON)}
    command = ["lora", "--base", str(base), "--photos", str(photos), "--out", str(tmp_path / "run"), "--install"]
    command += ["--concept", "OIL", "--steps", "10", "--batch", "1", "--lr", "0.02", "--rank", "4", "--sheet", "0"]
    assert main(command) == 0
    after = {concept: drawn(base, concept) for concept in (Concept.OIL, Concept.CARTOON)}
    assert after[Concept.OIL] != before[Concept.OIL]
    assert after[Concept.CARTOON] == before[Concept.CARTOON]
