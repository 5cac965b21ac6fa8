"""The trained model as files: rounded weights in safetensors, and ONNX from those very weights.

Weights are rounded to float16 before either file is written, so both hold the same model: 7 MB and 14 MB.
"""

import copy
import hashlib
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from safetensors.torch import save_file
from torch import nn

from runners.desk_model import DeskModel
from training.dataset import SIZE, Pixels

WEIGHTS = "model.safetensors"
ONNX = "model.onnx"
OPSET = 18


def rounded(model: DeskModel) -> DeskModel:
    """A copy whose weights are float16 numbers kept in float32. Raises ``ValueError`` if one does not fit float16."""
    copied = copy.deepcopy(model).float().eval()
    for name, tensor in copied.backbone.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().float())
            if not tensor.isfinite().all():
                raise ValueError(f"{name} has values beyond float16; it cannot be stored so")
    return copied


def write_weights(model: DeskModel, folder: Path) -> Path:
    """Write the backbone's state in float16, under timm's names. Returns the file."""
    path = folder / WEIGHTS
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.backbone.state_dict().items()
    }
    save_file(state, path)
    path.chmod(0o644)  # safetensors leaves it to the owner alone
    return path


def write_onnx(
    model: nn.Module, example: torch.Tensor, path: Path, names: tuple[str, str] = ("photos", "logits")
) -> Path:
    """Write ``model`` with a dynamic batch as one file. Returns it.

    The exporter folds batch normalisation into the convolutions. What it notes of this machine (stack traces with
    paths) is left out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations, nothing that a reader could mend
        program = torch.onnx.export(
            model.eval(),
            (example,),
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_shapes=({0: torch.export.Dim("n", max=4096)},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the ONNX exporter returned no program")
    proto = program.model_proto
    for part in (
        proto,
        proto.graph,
        *proto.graph.node,
        *proto.graph.input,
        *proto.graph.output,
        *proto.graph.initializer,
    ):
        del part.metadata_props[:]
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        part.doc_string = ""
    del proto.graph.value_info[:]
    proto.doc_string = proto.graph.doc_string = ""
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    return path


def example() -> torch.Tensor:
    """Two black photos, to trace a model with."""
    return torch.zeros(2, SIZE, SIZE, 3, dtype=torch.uint8)


def session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU; ``threads`` 0 takes all cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_logits(path: Path, photos: Pixels, batch: int = 64) -> npt.NDArray[np.float32]:
    """Logits ``(n,)`` of ``(n, 224, 224, 3)`` photos by the exported model."""
    runtime = session(path)
    parts = [runtime.run(None, {"photos": photos[at : at + batch]})[0] for at in range(0, len(photos), batch)]
    return np.concatenate(parts)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
