"""Nothing that serves or trains opens a pickle, runs text as code, or hands a command line to a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("deskterior", "runners", "training", "sandbox", "demo")
SOURCES = [
    ROOT / "service.py",
    *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")),
]
NEVER = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "yaml"}
RUN = {"eval", "exec", "compile", "__import__"}


def wrongs(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"imports {name.name}" for name in names if name.name.split(".")[0] in NEVER)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in NEVER:
                yield f"imports {module}"
            case ast.Call(func=ast.Name(id=name)) if name in RUN:
                yield f"calls {name}"
            case ast.Call(func=ast.Attribute(attr=attribute), keywords=keywords):
                given = {keyword.arg: getattr(keyword.value, "value", "?") for keyword in keywords}
                called = ast.unparse(node.func)
                if attribute == "load" and "torch" in called and given.get("weights_only") is not True:
                    yield f"{called} without weights_only=True"
                for argument in ("allow_pickle", "trust_remote_code", "shell"):
                    if given.get(argument, False) is not False:
                        yield f"{called} with {argument}"
                if given.get("use_safetensors", True) is False:
                    yield f"{called} without safetensors"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_opens_a_pickle_or_runs_text(path: Path) -> None:
    assert list(wrongs(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "from yaml import load",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "torch.load('a')",
        "torch.load('a', weights_only=False)",
        "x.from_pretrained('a', trust_remote_code=True)",
        "x.from_pretrained('a', use_safetensors=False)",
        "eval('1')",
        "subprocess.run('a', shell=True)",
    ],
)
def test_each_of_them_would_be_seen(bad: str) -> None:
    assert list(wrongs(bad))
