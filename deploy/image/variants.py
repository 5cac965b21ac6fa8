"""The two variants of the Bento and of its image. They differ in packages alone: `cuda` brings torch and its CUDA."""

from __future__ import annotations

import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent


class Variant(StrEnum):
    CPU = "cpu"
    CUDA = "cuda"

    @property
    def requirements(self) -> str:
        """The file with its packages, beside `bentofile.yaml`."""
        return {Variant.CPU: "requirements-serve.txt", Variant.CUDA: "requirements-gpu.txt"}[self]

    @property
    def bento(self) -> str:
        """The Bento's name; the service's own for `cpu`."""
        return {Variant.CPU: "deskterior", Variant.CUDA: "deskterior-cuda"}[self]


def build_bento(variant: Variant) -> str:
    """Build the Bento from `bentofile.yaml` and return its tag.

    Raises:
        subprocess.CalledProcessError: `bentoml build` failed, and has said why.
    """
    options: dict[str, Any] = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    options["name"] = variant.bento
    options["labels"]["variant"] = variant.value
    options["python"]["requirements_txt"] = f"./{variant.requirements}"
    options["include"] = [path.replace(Variant.CPU.requirements, variant.requirements) for path in options["include"]]
    with TemporaryDirectory() as folder:
        bentofile = Path(folder) / "bentofile.yaml"
        bentofile.write_text(yaml.safe_dump(options, allow_unicode=True))
        said = _bentoml("build", "--bentofile", str(bentofile), "--output", "tag", str(ROOT))
    return said.strip().splitlines()[-1].removeprefix("__tag__:")


def folder_of(tag: str) -> Path:
    """Where BentoML keeps a Bento."""
    return Path(_bentoml("get", tag, "--output", "path").strip())


def _bentoml(*arguments: str) -> str:
    command = [sys.executable, "-m", "bentoml", *arguments]
    env = {**os.environ, "COLUMNS": "10000"}  # it breaks a long path into lines
    return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - ours
