"""The desk classifier's weights, verified and ready to run: ONNX Runtime on a CPU, torch in half precision on CUDA.

Both turn `(n, 224, 224, 3)` uint8 RGB into `(n,)` float32 logits and agree on them. Batching, threads and HTTP are left
to `placement`; what the network looks like, to `desk_model`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import structlog
from numpy.typing import NDArray
from pydantic import BaseModel, Field, JsonValue, ValidationError, model_validator

from deskterior.errors import RunnerFailed

log = structlog.get_logger(__name__)

CARD = "model.json"
ONNX = "model.onnx"
WEIGHTS = "model.safetensors"
CPU_THREADS = 4
"""More threads gain nothing on one 224-pixel photo and are missing where photos are decoded."""
CPU_BATCH = 2
"""Seen on 2 cores, CPU time for a photo: 5.7 ms in batches of 1 or 2, 6.5 in 4, 7.5 in 8, 10.9 in 32 (the cache)."""
CUDA_BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Batches are padded to one of these, so that each has its CUDA graph."""


class ModelUnusable(RunnerFailed):
    """The model's files are missing, damaged or not what they say. Raised while starting, never by a request."""


class ScoreHistogram(BaseModel, frozen=True):
    """Photos of training by their out-of-fold score: `edges` has one more than the counts of each class."""

    edges: tuple[float, ...]
    desk: tuple[int, ...]
    not_desk: tuple[int, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for counts in (self.desk, self.not_desk):
            if len(counts) != len(self.edges) - 1 or not sum(counts) or min(counts) < 0:
                raise ValueError("a histogram has a count for each bin, and photos of each class")
        return self


class ModelInfo(BaseModel, frozen=True):
    """What a client may know of the model that answers: from `model.json`, with the device it runs on."""

    name: str
    version: str
    digest: str
    classes: tuple[str, ...]
    size: int = Field(gt=0)
    """Height and width of a photo, in pixels."""
    threshold: float = Field(ge=0, le=1)
    """Score from which a photo is a desk."""
    temperature: float = Field(gt=0, allow_inf_nan=False)
    """score = sigmoid(logit / temperature) (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""
    device: str
    metrics: dict[str, JsonValue]
    score_histogram: ScoreHistogram | None = None
    """What drift is measured against; a model without one has none that is known."""

    @property
    def label(self) -> str:
        """What figures call it: the version, and the digest's beginning, since a version can be trained twice."""
        return f"{self.version}-{self.digest.removeprefix('sha256:')[:8]}"


class _File(BaseModel):
    sha256: str


class _Input(BaseModel):
    size: int


class _Card(BaseModel):
    name: str
    version: str
    digest: str
    classes: tuple[str, ...]
    input: _Input
    threshold: float
    temperature: float
    metrics: dict[str, JsonValue]
    score_histogram: ScoreHistogram | None = None
    files: dict[str, _File]


class Engine(Protocol):
    """A model that is loaded. One thread at a time."""

    device: str
    max_batch: int

    def logits(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """`(n, size, size, 3)` photos, n at most `max_batch`, to `(n,)` logits."""
        ...


def load(folder: Path) -> tuple[Engine, ModelInfo]:
    """Verify the model in `folder`, load it on the best device here and run it once in every batch size that matters.

    Raises:
        ModelUnusable: naming the file, what is wrong with it and how to mend it.
    """
    card = _read_card(folder)
    engine: Engine
    if _use_cuda():
        _verified(folder, WEIGHTS, card)
        engine = TorchEngine(folder, size=card.input.size)
    else:
        engine = OnnxEngine(_verified(folder, ONNX, card), size=card.input.size)
    try:
        info = ModelInfo(size=card.input.size, device=engine.device, **card.model_dump(exclude={"input", "files"}))
    except ValidationError as error:
        raise _unusable(folder / CARD, _first(error)) from None
    return engine, info


class OnnxEngine:
    """The CPU's engine. Imports no torch."""

    max_batch = CPU_BATCH

    def __init__(self, model: bytes, size: int) -> None:
        # Or it keeps an identity of this machine in ~/.cache, and tells its makers of every session.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime

        threads = max(1, min(CPU_THREADS, len(os.sched_getaffinity(0))))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # A spinning thread pool burns the cores on which photos are decoded: 12 ms of CPU a photo instead of 6.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            (given,), (made,) = self._session.get_inputs(), self._session.get_outputs()
        except Exception as error:
            raise _unusable(Path(ONNX), f"ONNX Runtime cannot load it ({type(error).__name__})") from error
        interface = (given.name, given.type, given.shape[1:], made.name)
        if interface != ("photos", "tensor(uint8)", [size, size, 3], "logits"):
            raise _unusable(
                Path(ONNX), f"it takes and gives {interface}, not uint8 photos (n, {size}, {size}, 3) -> logits"
            )
        self.device = f"cpu, {threads} threads"
        for batch in range(1, self.max_batch + 1):
            self.logits(np.zeros((batch, size, size, 3), np.uint8))

    def logits(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = self._session.run(["logits"], {"photos": photos})[0]
        return answer


class TorchEngine:
    """The GPU's engine: half precision, channels last, one CUDA graph for each batch size.

    A network this small spends its time on starting kernels, which a graph does once for all of them. `torch.compile`
    would need a C compiler where it runs and a minute at every start.
    `device="cpu"` is float32 without graphs, for comparison.
    """

    max_batch = CUDA_BATCHES[-1]

    def __init__(self, folder: Path, size: int, device: str = "cuda") -> None:
        import torch

        from runners.desk_model import load_torch

        self._torch = torch
        self._where = torch.device(device)
        try:
            model = load_torch(folder)
        except Exception as error:
            raise _unusable(folder / WEIGHTS, f"torch cannot load it ({type(error).__name__})") from error
        self._graphs: dict[int, tuple[Any, Any, Any]] = {}
        self.device = "cpu, torch"
        try:
            model = model.eval().to(self._where).to(memory_format=torch.channels_last)
            if self._where.type == "cuda":
                model = model.half()
                self.device = f"{self._where} {torch.cuda.get_device_name(self._where)}, half precision"
            self._model = model
            if self._where.type == "cuda":
                self._capture(size)
                for batch in CUDA_BATCHES:
                    self.logits(np.zeros((batch, size, size, 3), np.uint8))
        except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise ModelUnusable(
                f"The desk classifier cannot start on {device}: {reason}. "
                "Free the GPU's memory or match torch and the driver; with CUDA_VISIBLE_DEVICES= it runs on the CPU"
            ) from error

    def _capture(self, size: int) -> None:
        torch = self._torch
        try:
            # The largest first: the others then live within its memory.
            for batch in reversed(CUDA_BATCHES):
                photos = torch.zeros((batch, size, size, 3), dtype=torch.uint8, device=self._where)
                aside = torch.cuda.Stream(self._where)
                aside.wait_stream(torch.cuda.current_stream(self._where))
                with torch.inference_mode(), torch.cuda.stream(aside):
                    for _ in range(3):  # cuDNN picks its algorithms before the capture, which forbids that
                        self._model(photos)
                torch.cuda.current_stream(self._where).wait_stream(aside)
                graph = torch.cuda.CUDAGraph()
                pool = next(iter(self._graphs.values()))[0].pool() if self._graphs else None
                # Only what this thread does may spoil the capture: a drawing model may be loading beside it.
                with torch.inference_mode(), torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                    logits = self._model(photos)
                self._graphs[batch] = graph, photos, logits
            self.device += ", CUDA graphs"
        except RuntimeError as error:
            self._graphs.clear()
            log.warning("desk_classifier.no_cuda_graphs", error=str(error), effect="slower, same answers")

    def logits(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        torch, count = self._torch, len(photos)
        batch = next(size for size in CUDA_BATCHES if size >= count)
        with torch.inference_mode():
            if batch in self._graphs:
                graph, given, made = self._graphs[batch]
                given[:count].copy_(torch.from_numpy(photos))  # what was in the rows behind stays, and is not read
                graph.replay()
            else:
                made = self._model(torch.from_numpy(photos).to(self._where))
            answer: NDArray[np.float32] = made[:count].float().cpu().numpy()
        return answer


def scores(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Calibrated probabilities `(n,)` of logits `(n,)`. Raises `RunnerFailed` if one is not a finite number."""
    if not np.isfinite(logits).all():
        raise RunnerFailed(internal="the desk classifier's logit is not finite")
    probabilities: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -logits.astype(np.float64) / temperature))
    return probabilities


def _read_card(folder: Path) -> _Card:
    try:
        return _Card.model_validate_json((folder / CARD).read_bytes())
    except OSError as error:
        raise _unusable(folder / CARD, error.strerror or "it cannot be read") from None
    except ValidationError as error:
        raise _unusable(folder / CARD, _first(error)) from None


def _verified(folder: Path, name: str, card: _Card) -> bytes:
    path = folder / name
    if name not in card.files:
        raise _unusable(folder / CARD, f"it does not list {name} under `files`")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(path, error.strerror or "it cannot be read") from None
    if hashlib.sha256(data).hexdigest() != card.files[name].sha256:
        hint = (
            "it is a Git LFS pointer"
            if data.startswith(b"version https://git-lfs")
            else "its SHA-256 is not that of model.json"
        )
        raise _unusable(path, hint)
    return data


def _unusable(path: Path, what: str) -> ModelUnusable:
    return ModelUnusable(
        f"The desk classifier cannot start: {path}: {what}. Restore the folder from the repository, make it anew with "
        "`make train`, or point DESK_MODEL_DIR to a whole one."
    )


def _first(error: ValidationError) -> str:
    item = error.errors(include_input=False, include_url=False)[0]
    return f"`{'.'.join(map(str, item['loc'])) or 'the file'}`: {item['msg']}"


def _use_cuda() -> bool:
    """Whether a GPU and what it needs are here. Asked without importing torch, which takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"} or not _gpu_count():
        return False
    if importlib.util.find_spec("torch") is None:
        log.warning("desk_classifier.gpu_idle", why="torch is not installed", mend="install the `gpu` requirements")
        return False
    import torch

    if not torch.cuda.is_available():
        log.warning("desk_classifier.gpu_idle", why="torch finds no usable CUDA", mend="match torch and the driver")
        return False
    return True


def _gpu_count() -> int:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return 0
    try:
        count: int = pynvml.nvmlDeviceGetCount()
        return count
    finally:
        pynvml.nvmlShutdown()
