"""The committed desk classifier: whole, small enough, the same in both formats, and right on photos of our own."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from deskterior.photos import decode

MODEL = Path(__file__).parents[2] / "models" / "desk_classifier"
SAMPLES = Path(__file__).parents[2] / "samples"
MEGABYTES = 25
AGREEMENT = 1e-4

Photos = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((MODEL / "model.json").read_text(encoding="utf-8"))
    return loaded


def sample_files() -> list[Path]:
    return sorted(path for path in SAMPLES.glob("*.*") if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})


@pytest.fixture(scope="module")
def photos() -> Photos:
    """Our sample photos, and generated pictures from flat to noisy."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 224, dtype=np.uint8)
    generated = [np.full((224, 224, 3), value, dtype=np.uint8) for value in (0, 128, 255)]
    generated += [
        np.broadcast_to(ramp[:, None, None], (224, 224, 3)),
        np.broadcast_to(ramp[None, :, None], (224, 224, 3)),
    ]
    generated += [random.integers(0, 256, (224, 224, 3), dtype=np.uint8) for _ in range(3)]
    coarse = random.integers(0, 256, (6, 14, 14, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    return np.stack([*(decode(path.read_bytes()) for path in sample_files()), *generated, *coarse])


@pytest.fixture(scope="module")
def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(MODEL / "model.onnx"), providers=["CPUExecutionProvider"])


def logits(session: onnxruntime.InferenceSession, photos: Photos) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = session.run(["logits"], {"photos": photos})[0]
    return values


def test_both_formats_give_the_same_logits(session: onnxruntime.InferenceSession, photos: Photos) -> None:
    torch = pytest.importorskip("torch", reason="serving on a CPU installs no torch")
    from runners.desk_model import load_torch

    with torch.inference_mode():
        by_torch = load_torch(MODEL)(torch.from_numpy(photos)).numpy()
    assert np.abs(by_torch - logits(session, photos)).max() < AGREEMENT


def test_a_photo_gets_the_same_logit_alone_and_in_a_batch(
    session: onnxruntime.InferenceSession, photos: Photos
) -> None:
    together = logits(session, photos)
    assert together.shape == (len(photos),)
    assert together.dtype == np.float32
    alone = np.concatenate([logits(session, photo[None]) for photo in photos])
    assert np.abs(together - alone).max() < AGREEMENT


def test_the_card_names_the_very_files_beside_it(card: dict[str, Any]) -> None:
    assert set(card["files"]) == {"model.safetensors", "model.onnx"}
    for name, file in card["files"].items():
        content = (MODEL / name).read_bytes()
        assert file == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert card["digest"] == "sha256:" + card["files"]["model.safetensors"]["sha256"]


def test_the_files_are_small_enough_for_the_repository() -> None:
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) < MEGABYTES * 1_000_000
    assert sum(path.stat().st_size for path in (MODEL / "report").iterdir()) < 2_000_000


def test_the_card_is_complete(card: dict[str, Any]) -> None:
    assert card["classes"] == ["not_desk", "desk"]
    assert 0.0 < card["threshold"] < 1.0
    assert card["temperature"] > 0.0
    assert card["input"] == {
        "mean": [127.0] * 3,
        "std": [128.0] * 3,
        "name": "photos",
        "dtype": "uint8",
        "layout": "NHWC",
        "size": 224,
    }
    assert card["data"]["digest"].startswith("sha256:")
    assert card["training"]["command"].startswith("python -m training train")
    assert card["training"]["settings"]["backbone"] == card["backbone"]
    for subset in card["metrics"].values():
        for figure in subset.values():
            assert 0.0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1.0
    histogram = card["score_histogram"]
    assert len(histogram["edges"]) == len(histogram["desk"]) + 1 == len(histogram["not_desk"]) + 1
    assert sum(histogram["desk"]) == card["data"]["desks"]
    assert sum(histogram["desk"]) + sum(histogram["not_desk"]) == card["data"]["photos"]


def test_the_onnx_file_is_self_contained_folded_and_tells_nothing_of_the_machine() -> None:
    model = onnx.load(MODEL / "model.onnx", load_external_data=False)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert not any(part.metadata_props for part in (model, model.graph, *model.graph.node))
    (taken,), (given,) = model.graph.input, model.graph.output
    assert [dim.dim_param or dim.dim_value for dim in taken.type.tensor_type.shape.dim] == ["n", 224, 224, 3]
    assert [dim.dim_param for dim in given.type.tensor_type.shape.dim] == ["n"]


@pytest.mark.parametrize("path", sample_files(), ids=lambda path: path.name)
def test_sample_photos_are_judged_rightly(
    session: onnxruntime.InferenceSession, card: dict[str, Any], path: Path
) -> None:
    logit = logits(session, decode(path.read_bytes())[None])[0]
    score = 1.0 / (1.0 + np.exp(-logit / card["temperature"]))
    assert (score >= card["threshold"]) == path.name.startswith("desk")
