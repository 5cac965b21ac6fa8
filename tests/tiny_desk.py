"""A tiny stand-in for the trained model, with the same files and interface, whose answers a test can work out by hand.

logit = (mean - 127.5) / 20 of a photo's values. A photo of 255 alone gives a logit that is not finite.
`work` makes it slow: so many matrix products, a few milliseconds each, for each photo.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TEMPERATURE = 2.0
DIGEST = "sha256:" + "0" * 64
POISON: NDArray[np.uint8] = np.full((224, 224, 3), 255, np.uint8)


def photo(value: int) -> NDArray[np.uint8]:
    """A photo all of one value, 0 to 254."""
    return np.full((224, 224, 3), value, np.uint8)


def expected_score(value: float) -> float:
    return 1 / (1 + math.exp(-(value - 127.5) / 20 / TEMPERATURE))


def write(folder: Path, *, work: int = 0, version: str = "0.0.1", digest: str = DIGEST) -> Path:
    """Write `model.onnx` and `model.json` into `folder`. Returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = _graph(work).SerializeToString()
    (folder / "model.onnx").write_bytes(model)
    card = {
        "name": "desk_classifier",
        "version": version,
        "digest": digest,
        "classes": ["not_desk", "desk"],
        "files": {"model.onnx": {"sha256": hashlib.sha256(model).hexdigest(), "bytes": len(model)}},
        "input": {"name": "photos", "dtype": "uint8", "layout": "NHWC", "size": 224},
        "threshold": 0.25,
        "temperature": TEMPERATURE,
        "metrics": {"roc_auc": 0.5},
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def _graph(work: int) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["photos"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["plain"]),
        # 0 for every mean but 255, where it is log 0.
        helper.make_node("Sub", ["top", "mean"], ["room"]),
        helper.make_node("Log", ["room"], ["logged"]),
        helper.make_node("Mul", ["logged", "nothing"], ["poison"]),
        helper.make_node("Add", ["plain", "poison"], ["logits" if not work else "answer"]),
    ]
    constants: dict[str, NDArray[Any]] = {
        "axes": np.array([1, 2, 3], np.int64),
        "middle": np.array(127.5, np.float32),
        "scale": np.array(20, np.float32),
        "top": np.array(255, np.float32),
        "nothing": np.array(0, np.float32),
    }
    if work:
        constants |= {"matrix": np.zeros((672, 672), np.float32), "rows": np.array([0, -1, 672], np.int64)}
        nodes.append(helper.make_node("Reshape", ["values", "rows"], ["product0"]))
        nodes += [helper.make_node("MatMul", [f"product{i}", "matrix"], [f"product{i + 1}"]) for i in range(work)]
        constants["last"] = np.array([1, 2], np.int64)
        nodes.append(helper.make_node("ReduceMean", [f"product{work}", "last"], ["zero"], keepdims=0))
        nodes.append(helper.make_node("Add", ["answer", "zero"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "tiny_desk",
        [helper.make_tensor_value_info("photos", TensorProto.UINT8, ["n", 224, 224, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
