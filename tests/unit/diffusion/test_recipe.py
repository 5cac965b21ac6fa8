"""How a checkpoint is drawn with, by its family and its own file; sizes and memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskterior.schemas import Concept
from runners.diffusion import checkpoint, memory, recipe
from runners.diffusion.memory import GB, MemoryPlan
from runners.diffusion.versions import VersionUnusable
from tests.unit.diffusion.files import INDEX, tensors, with_file, write


def read(folder: Path, text: str | None = None, name: str = "one") -> recipe.Recipes:
    if text is not None:
        (folder / "deskterior.toml").write_text(text)
    return recipe.read(folder, checkpoint.vet(folder), name)


def test_defaults_are_the_familys(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    recipes = read(folder)
    assert (recipes.side, recipes.multiple) == (1024, 16)
    assert {(how.steps, how.strength, how.guidance_scale) for how in recipes.by_concept.values()} == {(30, 0.6, 6.0)}
    few = read(folder, name="sdxl-turbo").by_concept[Concept.BASIC]
    assert (few.steps, few.strength, few.guidance_scale) == (4, 0.5, 0.0)
    plain = read(folder, "few_steps = false", name="sdxl-turbo").by_concept[Concept.BASIC]
    assert plain.steps == 30


def test_turbo_is_known_by_its_scheduler(tmp_path: Path) -> None:
    folder = write(tmp_path / "one", INDEX | {"scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"]})
    assert read(folder).by_concept[Concept.BASIC].steps == 30
    (folder / "scheduler" / "scheduler_config.json").write_text('{"timestep_spacing": "trailing"}')
    assert read(folder).by_concept[Concept.BASIC].steps == 4


def test_a_concept_says_what_is_different_about_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    for name in ("loras/OIL", "loras/CARTOON", "other"):
        with_file(f"{name}.safetensors", tensors())(folder)
    recipes = read(
        folder,
        """
        side = 768
        [defaults]
        steps = 20
        guidance_scale = 5
        prompt_suffix = "warm light"
        [concepts.OIL]
        strength = 0.9
        prompt_prefix = "oil painting,"
        lora_scale = 0.5
        [concepts.SIMPLE]
        lora = "other.safetensors"
        [concepts.CARTOON]
        lora = ""
        """,
    )
    oil, simple, basic = (recipes.by_concept[Concept(name)] for name in ("OIL", "SIMPLE", "BASIC"))
    assert (recipes.side, oil.steps, oil.strength, oil.guidance_scale) == (768, 20, 0.9, 5.0)
    assert oil.prompt("a desk") == "oil painting, a desk warm light"
    assert (oil.lora, oil.lora_scale) == (folder / "loras" / "OIL.safetensors", 0.5)
    assert (simple.lora, basic.lora) == (folder / "other.safetensors", None)
    assert recipes.by_concept[Concept.CARTOON].lora is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("side = ", "not TOML"),
        ("side = 99999", r"deskterior\.toml: side"),
        ('side = "512"', "side"),
        ("sides = 512", "sides"),
        ("side = 16\nmultiple = 64", "multiple is 64"),
        ("[defaults]\nsteps = 0", r"defaults\.steps"),
        ("[defaults]\nsteps = 1000", "steps"),
        ("[defaults]\nsteps = 3\nstrength = 0.3", "has to be at least 1"),
        ("[defaults]\nstrength = 1.5", "strength"),
        ("[defaults]\nstrength = nan", "strength"),
        ("[defaults]\nguidance_scale = inf", "guidance_scale"),
        ("[concepts.PASTEL]\nsteps = 3", "PASTEL.* is none of the concepts BASIC"),
        ("[concepts.OIL]\nloras = 'x'", r"concepts\.OIL\.loras"),
        ("[concepts.OIL]\nlora = '../x.safetensors'", "file of the folder"),
        ("[concepts.OIL]\nlora = '/etc/x.safetensors'", "file of the folder"),
        ("[concepts.OIL]\nlora = 'x.bin'", "file of the folder"),
        ('[concepts.OIL]\nlora = "\\u0000.safetensors"', "header cannot be read"),
        ("[concepts.OIL]\nlora = 'lost.safetensors'", "lost.* cannot be read"),
        ("prompt = '''" + "x" * 300_000 + "'''", "over 256 KB"),
        ("[defaults]\nprompt_prefix = '" + "x" * 3000 + "'", "prompt_prefix"),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong_with_it(tmp_path: Path, text: str, said: str) -> None:
    folder = write(tmp_path / "one")
    with pytest.raises(VersionUnusable, match=said) as refused:
        read(folder, text)
    assert str(tmp_path) not in refused.value.detail
    assert len(refused.value.detail) < 500


@given(st.integers(1, 100_000), st.integers(1, 100_000), st.sampled_from([(512, 16), (1024, 16), (32, 8), (1000, 64)]))
def test_every_photo_has_a_size_that_the_network_takes(width: int, height: int, of: tuple[int, int]) -> None:
    side, multiple = of
    drawn = recipe.Recipes(side, multiple, {}).size(width, height)
    assert all(length % multiple == 0 and length >= multiple for length in drawn)
    assert drawn[0] * drawn[1] <= side**2
    assert drawn[::-1] == recipe.Recipes(side, multiple, {}).size(height, width)


def test_a_square_is_drawn_as_large_as_may_be() -> None:
    assert recipe.Recipes(1024, 16, {}).size(3000, 3000) == (1024, 1024)
    assert recipe.Recipes(512, 16, {}).size(4032, 3024) == (576, 432)


@pytest.mark.parametrize(
    ("free", "weights", "largest", "expected"),
    [
        (80, 7, 5, MemoryPlan("resident", vae_slices=False, attention_slices=False, max_batch=4)),
        (24, 7, 5, MemoryPlan("resident", vae_slices=True, attention_slices=False, max_batch=4)),
        (12, 7, 5, MemoryPlan("resident", vae_slices=True, attention_slices=False, max_batch=1)),
        (10, 7, 5, MemoryPlan("offload", vae_slices=True, attention_slices=False, max_batch=1)),
        (6, 7, 5, MemoryPlan("sequential", vae_slices=True, attention_slices=True, max_batch=1)),
        (24, 34, 24, MemoryPlan("sequential", vae_slices=True, attention_slices=True, max_batch=1)),
    ],
)
def test_the_layout_is_the_fastest_that_fits(free: int, weights: int, largest: int, expected: MemoryPlan) -> None:
    assert memory.plan(free * GB, weights * GB, largest * GB, 1024**2, 4) == expected


def test_a_chosen_layout_is_taken_as_it_is() -> None:
    def plan(mode: memory.Mode) -> MemoryPlan:
        return memory.plan(6 * GB, 7 * GB, 5 * GB, 1024**2, 4, mode)

    assert plan("fast") == MemoryPlan("resident", vae_slices=False, attention_slices=False, max_batch=4)
    assert plan("slices") == MemoryPlan("resident", vae_slices=True, attention_slices=False, max_batch=1)
    assert plan("offload").placement == "offload"
    assert memory.free_ram() > 0
