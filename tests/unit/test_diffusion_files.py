"""What lies in the folder of the drawing model, read without torch: versions, checkpoints, recipes, memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deskterior.schemas import Concept
from runners.diffusion import checkpoint, memory, recipe
from runners.diffusion.memory import GB, MemoryPlan
from runners.diffusion.versions import Digests, ModelFolder, Version, VersionUnusable
from runners.drawing import VersionInfo

INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.42.1",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "image_encoder": [None, None],
    "force_zeros_for_empty_prompt": True,
}


def tensors(many: int = 4) -> bytes:
    """A file of so many tensors, each of one number."""
    header = json.dumps(
        {f"w{at}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]} for at in range(many)}
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * many)


def write(folder: Path, index: dict[str, Any] | None = None) -> Path:
    """A checkpoint whose weights are nothing. Nothing here loads them."""
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(INDEX if index is None else index))
    for name, config in (
        ("unet", {"sample_size": 128, "in_channels": 4}),
        ("vae", {"block_out_channels": [128, 256, 512, 512]}),
    ):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        (folder / name / "diffusion_pytorch_model.safetensors").write_bytes(tensors())
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folder


# versions


def test_nothing_is_installed_where_nothing_is(tmp_path: Path) -> None:
    for folder in (ModelFolder(tmp_path), ModelFolder(tmp_path / "missing")):
        assert (folder.versions(), folder.active(), folder.stray()) == ([], None, "")
        folder.fingerprint()
    (tmp_path / "README.md").write_text("put it here")
    (tmp_path / ".cache").mkdir()
    assert ModelFolder(tmp_path).active() is None


def test_a_single_version_needs_no_file_and_several_do(tmp_path: Path) -> None:
    write(tmp_path / "one")
    folder = ModelFolder(tmp_path)
    assert folder.active() == Version("one", tmp_path / "one")
    (tmp_path / "half-copied").mkdir()
    assert folder.active() == Version("one", tmp_path / "one")
    write(tmp_path / "two")
    with pytest.raises(VersionUnusable, match=r"none is active: one, two.*activate"):
        folder.active()
    folder.activate("two")
    assert folder.active() == Version("two", tmp_path / "two")
    assert (tmp_path / "active").read_text() == "two\n"
    assert not list(tmp_path.glob(".active*"))


def test_names_are_of_any_script_and_what_is_no_name_is_said(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    write(tmp_path / "sdxl turbo (1)")
    assert folder.versions() == []
    assert "'sdxl turbo (1)' is no version by its name" in folder.stray()
    write(tmp_path / "책상_2.1")
    folder.activate("책상_2.1")
    assert folder.active() == Version("책상_2.1", tmp_path / "책상_2.1")


def test_a_name_is_the_same_however_its_letters_are_put_together(tmp_path: Path) -> None:
    for name in ("책상", "café"):
        write(tmp_path / unicodedata.normalize("NFD", name))  # as macOS copies it
    folder = ModelFolder(tmp_path)
    assert [version.name for version in folder.versions()] == ["café", "책상"]
    assert folder.stray() == ""
    folder.activate("책상")
    assert folder.active() == Version("책상", tmp_path / unicodedata.normalize("NFD", "책상"))
    (tmp_path / "active").write_text(unicodedata.normalize("NFD", "café"), "utf-8")
    assert folder.active() == folder.version("café")


@pytest.mark.parametrize("named", ["three", "../one", "/etc", "one/../one", "\0", "x" * 500, "\xff"])
def test_a_name_that_nothing_has_is_refused_with_those_that_are(tmp_path: Path, named: str) -> None:
    write(tmp_path / "one")
    (tmp_path / "active").write_text(named, "utf-8")
    folder = ModelFolder(tmp_path)
    with pytest.raises(VersionUnusable, match=r"there are: one$"):
        folder.active()
    for change in (folder.activate, folder.remove):
        with pytest.raises(VersionUnusable, match=r"there are: one$"):
            change(named)


def test_the_folder_itself_may_be_the_checkpoint(tmp_path: Path) -> None:
    folder = ModelFolder(write(tmp_path / "sdxl"))
    assert folder.active() == Version("sdxl", tmp_path / "sdxl")
    for change in (folder.activate, folder.remove):
        with pytest.raises(VersionUnusable, match="itself"):
            change("sdxl")
    assert (tmp_path / "sdxl" / "model_index.json").exists()


def test_the_active_version_is_not_removed_and_others_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name)
    folder = ModelFolder(tmp_path)
    folder.activate("one")
    with pytest.raises(VersionUnusable, match="activate another"):
        folder.remove("one")
    folder.remove("two")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["active", "one"]


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "model")
    write(tmp_path / "models" / "one")
    (tmp_path / "models" / "linked").symlink_to(tmp_path / "elsewhere" / "model")
    folder = ModelFolder(tmp_path / "models")
    folder.activate("one")
    folder.remove("linked")
    assert (tmp_path / "elsewhere" / "model" / "model_index.json").exists()


def test_every_change_of_a_file_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "one")
    folder = ModelFolder(tmp_path)
    seen = {folder.fingerprint()}

    def changed() -> None:
        assert folder.fingerprint() not in seen
        seen.add(folder.fingerprint())

    (tmp_path / "active").write_text("one")
    changed()
    (path / "deskterior.toml").write_text("side = 512")
    changed()
    (path / "unet" / "config.json").unlink()
    changed()
    (path / "dangling").symlink_to(path / "nowhere")
    changed()
    write(tmp_path / "two")
    changed()
    assert folder.fingerprint() in seen


def test_a_digest_is_of_all_files_and_is_not_read_twice(tmp_path: Path) -> None:
    digests = Digests()
    version = Version("one", write(tmp_path / "one"))
    first = digests.of(version)
    assert first.startswith("sha256:")
    assert digests.of(Version("two", write(tmp_path / "two"))) == first  # the name of a folder is nothing
    weights = version.path / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.stat()
    weights.write_bytes(tensors()[:-1] + b"\1")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.of(version) == first  # neither size nor time has changed
    os.utime(weights)
    changed = digests.of(version)
    assert changed not in {first, ""}
    (version.path / "gone").symlink_to(tmp_path / "nowhere")
    assert digests.of(version) == ""


def test_a_digest_waits_for_no_pipe_and_knows_names_that_are_not_utf_8(tmp_path: Path) -> None:
    one, two = Version("one", write(tmp_path / "one")), Version("two", write(tmp_path / "two"))
    with Path(os.fsdecode(os.fsencode(one.path) + b"/\xc7\xd1.txt")).open("w"):  # Korean, by an old ZIP
        pass
    assert Digests().of(one).startswith("sha256:")
    os.mkfifo(two.path / "pipe")
    assert Digests().of(two) == ""


def test_a_digest_is_given_up_when_the_process_ends(tmp_path: Path) -> None:
    digests = Digests()
    digests.stop()
    assert digests.of(Version("one", write(tmp_path / "one"))) == ""


# checkpoints


def test_a_whole_checkpoint_passes(tmp_path: Path) -> None:
    found = checkpoint.vet(write(tmp_path / "one"))
    assert found.class_name == "StableDiffusionXLPipeline"
    assert found.weights == {"unet": 4, "vae": 4}
    assert not found.inpaints


def with_index(**changed: Any) -> Callable[[Path], None]:
    return with_file("model_index.json", json.dumps(INDEX | changed))


def with_file(name: str, content: bytes | str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return put


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def told_of(shape: str, rest: bytes = bytes(4)) -> bytes:
    """A file that says its one tensor is of that shape."""
    header = f'{{"w": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 4]}}}}'.encode()
    return struct.pack("<Q", len(header)) + header + rest


def with_pipe(name: str) -> Callable[[Path], None]:
    return lambda folder: os.mkfifo(folder / name)


def with_linked_unet(folder: Path) -> None:
    (folder / "unet").rename(folder.parent / "elsewhere")
    (folder / "unet").symlink_to(folder.parent / "elsewhere")


def with_foreign_name(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xc7\xd1.bin")).write_bytes(b"")


UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("model_index.json"), r"no model_index\.json"),
        (with_file("model_index.json", "{"), r"model_index\.json is not a JSON object"),
        (with_file("model_index.json", "[]"), "not a JSON object"),
        (with_file("model_index.json", "[" * 100_000), "not a JSON object"),
        (with_file("model_index.json", b"\xff\xfe\x00"), "not text"),
        (with_index(_class_name=None), "names no pipeline"),
        (with_index(_class_name=["pipeline", "MyPipeline"]), "code of their own"),
        (with_index(_class_name="../evil"), "names no pipeline"),
        (with_index(unet=["my_code", "UNet"]), "unet comes from my_code"),
        (with_index(unet=["os", "system"]), "comes from os"),
        (with_index(unet=["diffusers.models", "UNet"]), "not a library and a class"),
        (with_index(unet=["diffusers"]), "not a library and a class"),
        (with_index(**{"../x": ["diffusers", "UNet"]}), "no name of a part"),
        (with_index(text_encoder=["transformers", "CLIPTextModel"]), r"text_encoder/ is missing"),
        (with_file("unet/modeling.py", "import os"), r"unet/modeling\.py is code"),
        (with_file("pipeline.py", ""), "is code"),
        (with_file("unet/diffusion_pytorch_model.bin", b"PK"), r"\.bin may hold code"),
        (with_file("vae/x.ckpt", b""), "pickle"),
        (with_file("x.pt", b""), "pickle"),
        (with_file("extra/x.PKL", b""), "pickle"),
        (with_file("unet/config.json", '{"auto_map": {"AutoModel": "evil--Model"}}'), "auto_map"),
        (with_file("tokenizer/tokenizer_config.json", '{"auto_map": {}}'), "auto_map"),
        (without(UNET), "unet/ has no weights"),
        (with_file(UNET, b""), "cut short"),
        (with_file(UNET, tensors()[:-3]), r"has \d+ bytes where its header says \d+"),
        (with_file(UNET, tensors() + b"more"), "header says"),
        (with_file(UNET, b"\xff" * 64), "no safetensors"),
        (with_file(UNET, struct.pack("<Q", 8) + b'{"a": 1}'), "header cannot be read"),
        (with_file(UNET, struct.pack("<Q", 2) + b"[]"), "header cannot be read"),
        (with_file(UNET, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS pointer"),
        (with_file("unet/m.safetensors.index.json", '{"weight_map": {"w": "lost.safetensors"}}'), "lost.* is missing"),
        (with_file("unet/m.safetensors.index.json", '{"weight_map": {"w": "../vae/config.json"}}'), "is missing"),
        (
            with_file("unet/m.safetensors.index.fp16.json", '{"weight_map": {"w": "lost.safetensors"}}'),
            "lost.* is missing",
        ),
        (with_file("unet/m.safetensors.index.json", '{"weight_map": {"w": 1}}'), "shards cannot be read"),
        (with_file("unet/m.safetensors.index.json", "{}"), "shards cannot be read"),
        (with_file("unet/config.json", '{"layers_per_block": 3000}'), "asks for 3000 layers_per_block"),
        (with_file("unet/config.json", '{"layers_per_block": [2, 3000]}'), "asks for 3000 layers_per_block"),
        (with_file("unet/config.json", '{"text": {"num_hidden_layers": 100000}}'), "asks for 100000 num"),
        (with_file("vae/config.json", json.dumps({"block_out_channels": [32] * 5000})), "asks for 5000 block_out"),
        (
            with_file("scheduler/scheduler_config.json", '{"num_train_timesteps": 4000000000}'),
            "num_train_timesteps is 4",
        ),
        (with_file("scheduler/scheduler_config.json", '{"num_train_timesteps": "x"}'), "num_train_timesteps is 'x'"),
        (with_file("loras/OIL.safetensors", b"short"), r"loras/OIL\.safetensors"),
        (with_file(UNET, told_of(f"[1{400 * '0'}]")), "tells of more than it holds"),
        (with_file(UNET, told_of("[-1]")), "tells of more than it holds"),
        (with_file(UNET, told_of("[1e999]")), "header cannot be read"),
        (with_index(safety_checker=["diffusers", "X"]), r"safety_checker/ is missing.*\[null, null\]"),
        (with_index(**{"\ud800": ["evil", "X"]}), "is no name of a part"),
        (
            with_file("unet/m.safetensors.index.json", '{"weight_map": {"w": "\\ud800.safetensors"}}'),
            r"the shard '\\ud800.safetensors' is missing",
        ),
        (with_pipe("unet/pipe.json"), "pipe or a device"),
        (with_pipe("notes"), "pipe or a device"),
        (with_linked_unet, "unet is a link to a folder"),
        (with_foreign_name, r"\.bin may hold code"),
    ],
)
def test_what_may_not_be_loaded_is_refused_by_its_name(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    folder = write(tmp_path / "one")
    spoil(folder)
    with pytest.raises(VersionUnusable, match=said) as refused:
        checkpoint.vet(folder)
    assert str(tmp_path) not in refused.value.detail
    assert VersionInfo(version="one", problem=refused.value.detail).model_dump_json()


@pytest.fixture
def without_rights() -> Iterator[Path]:
    """A folder for one who has no rights but those that its files give to all."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        os.seteuid(os.getuid())


def lose_rights(path: Path) -> None:
    path.chmod(0)
    if os.geteuid() == 0:  # who may read everything
        os.seteuid(65534)


@pytest.mark.parametrize("name", ["", "unet", "loras", "model_index.json", "unet/config.json", "deskterior.toml"])
def test_what_may_not_be_read_is_refused_by_its_name(without_rights: Path, name: str) -> None:
    folder = write(without_rights / "models" / "one")
    (folder / "loras").mkdir()
    (folder / "deskterior.toml").touch()
    lose_rights(folder / name)
    models = ModelFolder(folder.parent)
    assert models.active() == Version("one", folder)
    models.fingerprint()
    with pytest.raises(VersionUnusable, match=rf"^{re.escape(name)}.*cannot be read: Permission denied$"):
        recipe.read(folder, checkpoint.vet(folder), "one")


def test_a_folder_of_versions_that_may_not_be_read_is_said(without_rights: Path) -> None:
    models = ModelFolder(write(without_rights / "models" / "one").parent)
    lose_rights(models.path)
    assert models.versions() == []
    assert models.stray() == "The folder itself cannot be read: Permission denied"
    with pytest.raises(VersionUnusable, match="cannot be read: Permission denied"):
        models.active()


def test_what_macos_leaves_beside_each_file_is_no_file_of_the_checkpoint(tmp_path: Path) -> None:
    folder = write(tmp_path / "one")
    with_file("loras/OIL.safetensors", tensors())(folder)
    for path in [*folder.rglob("*.safetensors"), folder / "unet" / "m.safetensors.index.json"]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(100))
    assert checkpoint.vet(folder).weights == {"unet": 4, "vae": 4}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "is empty"),
        ({"config.json": "{}", "model.safetensors": ""}, "language model"),
        ({"sdxl.safetensors": ""}, "single file"),
        ({"notes.txt": "hello"}, "Nothing in it"),
    ],
)
def test_a_folder_of_something_else_is_told_what_it_looks_like(
    tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(VersionUnusable, match=said):
        checkpoint.vet(tmp_path)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_of_a_weights_file_do_anything_but_be_refused(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "x.safetensors"
    for content in (start + rest, struct.pack("<Q", len(start)) + start + rest):
        path.write_bytes(content)
        with contextlib.suppress(VersionUnusable):
            assert all(many >= 0 for many in checkpoint.tensors(path.parent, path))


# recipes


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


# memory


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
