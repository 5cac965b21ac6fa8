"""What a checkpoint may hold, and every way in which it is refused, without torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.diffusion import checkpoint, recipe
from runners.diffusion.versions import ModelFolder, Version, VersionUnusable
from runners.drawing import VersionInfo
from tests.unit.diffusion.files import INDEX, tensors, with_file, write


def test_a_whole_checkpoint_passes(tmp_path: Path) -> None:
    found = checkpoint.vet(write(tmp_path / "one"))
    assert found.class_name == "StableDiffusionXLPipeline"
    assert found.weights == {"unet": 4, "vae": 4}
    assert not found.inpaints


def with_index(**changed: Any) -> Callable[[Path], None]:
    return with_file("model_index.json", json.dumps(INDEX | changed))


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
