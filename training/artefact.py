"""``model.json``: all that a server has to know of the weights beside it, and where they came from."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from runners.desk_model import DeskModel, load_torch
from training import export
from training.calibrate import Calibration
from training.dataset import CLASSES, SIZE, Dataset, Pixels
from training.split import Tail

CARD = "model.json"
AGREEMENT = 1e-4  # of logits, between safetensors in torch and ONNX
MAX_BYTES = 25_000_000


class ArtefactError(RuntimeError):
    """The exported files are not fit to be served; the message says why."""


@dataclass(frozen=True)
class File:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Input:
    mean: list[float]
    std: list[float]
    name: str = "photos"
    dtype: str = "uint8"
    layout: str = "NHWC"
    size: int = SIZE


@dataclass(frozen=True)
class Output:
    name: str = "logits"
    dtype: str = "float32"
    score: str = "sigmoid(logit / temperature)"
    verdict: str = "desk if score >= threshold"


@dataclass(frozen=True)
class Histogram:
    """Out-of-fold scores of the training photos: what scores looked like before the world changed."""

    edges: list[float]
    desk: list[int]
    not_desk: list[int]


@dataclass(frozen=True)
class Data:
    digest: str
    photos: int
    desks: int
    sources: int


@dataclass(frozen=True)
class Training:
    command: str
    seconds: int
    settings: dict[str, object]


@dataclass(frozen=True)
class Card:
    """The whole of ``model.json``. ``digest`` is that of ``model.safetensors``."""

    name: str
    version: str
    created: str
    digest: str
    backbone: str
    input: Input
    temperature: float
    threshold: float
    files: dict[str, File]
    data: Data
    metrics: dict[str, dict[str, dict[str, float]]]
    score_histogram: Histogram
    training: Training
    output: Output = field(default_factory=Output)
    classes: tuple[str, str] = CLASSES


def data(photos: Dataset) -> Data:
    """What the weights were trained on."""
    return Data("sha256:" + photos.digest(), len(photos), int(photos.labels.sum()), len(set(photos.sources)))


def histogram(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.bool_], bins: int = 20) -> Histogram:
    """Count scores ``(n,)`` in 0-1 by class."""
    edges = np.linspace(0.0, 1.0, bins + 1)
    desk, other = (np.histogram(scores[labels == wanted], edges)[0].tolist() for wanted in (True, False))
    return Histogram(edges.round(2).tolist(), desk, other)


def shifted(model: DeskModel, calibration: Calibration) -> DeskModel:
    """The model with the shift of the calibration in its bias, so that the temperature is all that serving applies."""
    with torch.no_grad():
        Tail(model, 0).head.bias.add_(calibration.shift)
    return model


def write_weights(model: DeskModel, folder: Path) -> dict[str, File]:
    """Round the weights and write both files. Whether they agree is ``verify``'s to say, beside ``model.json``."""
    stored = export.rounded(model)
    paths = [export.write_weights(stored, folder), export.write_onnx(stored, export.example(), folder / export.ONNX)]
    return {path.name: File(export.sha256(path), path.stat().st_size) for path in paths}


def write_card(card: Card, folder: Path) -> None:
    text = json.dumps(asdict(card), indent=2, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")


def verify(folder: Path, photos: Pixels, trained: DeskModel) -> float:
    """The largest difference of logits between the two files on ``photos`` ``(n, 224, 224, 3)``.

    Raises ``ArtefactError`` if they differ by ``AGREEMENT``, rounding moved a logit by 0.1, or they are too large.
    """
    by_onnx = export.onnx_logits(folder / export.ONNX, photos)
    with torch.inference_mode():
        by_torch = load_torch(folder)(torch.from_numpy(photos)).numpy()
        before = trained(torch.from_numpy(photos)).numpy()
    apart = float(np.abs(by_onnx - by_torch).max())
    moved = float(np.abs(before - by_torch).max())
    if apart > AGREEMENT:
        raise ArtefactError(f"safetensors and ONNX differ by {apart:.2g} in a logit, more than {AGREEMENT:.0e}")
    if moved > 0.1:
        raise ArtefactError(f"rounding to float16 moved a logit by {moved:.2g}")
    size = sum((folder / name).stat().st_size for name in (export.WEIGHTS, export.ONNX))
    if size > MAX_BYTES:
        raise ArtefactError(f"the two files hold {size} bytes, more than {MAX_BYTES}")
    return apart
