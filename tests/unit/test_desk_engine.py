"""The desk classifier's files: whole, damaged, and the same to both engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deskterior.config import ROOT
from runners import desk_engine
from runners.desk_engine import ModelUnusable, OnnxEngine, TorchEngine
from tests import tiny_desk

MODEL = ROOT / "models" / "desk_classifier"


def test_a_folder_without_a_model_is_named_with_the_way_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match=r"model\.json.*No such file.*make train") as caught:
        desk_engine.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _card(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        card = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps({k: v for k, v in (card | changes).items() if v is not None}))

    return change


def _foreign_onnx(folder: Path) -> None:
    """A sound ONNX file, with its digest noted, of another interface."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128
    onnx.save(model, folder / "model.onnx")
    _resign(folder)


def _garbage_onnx(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model at all")
    _resign(folder)


def _resign(folder: Path) -> None:
    import hashlib

    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    _card(files={"model.onnx": {"sha256": digest}})(folder)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "model.onnx").unlink(), r"model\.onnx.*No such file"),
        (lambda folder: _cut(folder / "model.onnx"), r"model\.onnx.*SHA-256"),
        (lambda folder: (folder / "model.onnx").write_bytes(b""), r"model\.onnx.*SHA-256"),
        (_foreign_onnx, r"model\.onnx"),
        (_garbage_onnx, r"model\.onnx.*cannot load"),
        (lambda folder: _cut(folder / "model.json"), r"model\.json"),
        (lambda folder: (folder / "model.json").write_text("[]"), r"model\.json"),
        (_card(temperature=0), r"model\.json.*temperature"),
        (_card(threshold=2), r"model\.json.*threshold"),
        (_card(temperature=None), r"model\.json.*temperature"),
        (_card(files={}), r"model\.json.*model\.onnx"),
    ],
)
def test_damaged_files_are_named_with_the_way_to_mend_them(
    damage: Callable[[Path], None], named: str, tmp_path: Path
) -> None:
    damage(tiny_desk.write(tmp_path))
    with pytest.raises(ModelUnusable, match=named) as caught:
        desk_engine.load(tmp_path)
    assert "make train" in str(caught.value)


def test_onnx_and_torch_give_the_same_scores_whatever_the_batch() -> None:
    photos = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    onnx, info = desk_engine.load(MODEL)
    engine = TorchEngine(MODEL, size=224, device="cpu")
    assert isinstance(onnx, OnnxEngine)
    ours = np.concatenate([onnx.logits(photos[:2]), onnx.logits(photos[2:])])
    for theirs in (engine.logits(photos), np.concatenate([engine.logits(photos[:1]), engine.logits(photos[1:])])):
        np.testing.assert_allclose(
            desk_engine.scores(theirs, info.temperature), desk_engine.scores(ours, info.temperature), atol=1e-3
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_cannot_be_used_is_said_with_the_way_to_mend_it() -> None:
    with pytest.raises(ModelUnusable, match=r"cannot start on cuda: .*CUDA_VISIBLE_DEVICES= it runs on the CPU"):
        TorchEngine(MODEL, size=224, device="cuda")


def test_the_runtime_keeps_no_identity_of_the_machine_and_tells_nobody(tmp_path: Path) -> None:
    tiny = tiny_desk.write(tmp_path / "model")
    home = tmp_path / "home"
    home.mkdir()
    code = f"from pathlib import Path; from runners import desk_engine as e; e.load(Path({str(tiny)!r}))"
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "TMPDIR": str(home), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
    assert list(home.rglob("*")) == []
