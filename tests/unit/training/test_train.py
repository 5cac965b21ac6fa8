"""The one command, end to end, on generated pictures and a tiny backbone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from runners.desk_model import load_torch
from tests.unit.training.conftest import SMALL
from training import artefact, crossval, dataset, export
from training.__main__ import main
from training.dataset import SIZE
from training.settings import Settings


def flags(folder: Path, **more: str) -> list[str]:
    options = {f"--{name}": str(value) for name, value in SMALL.items()}
    options |= {"--data": str(folder), "--run": str(folder / "run"), "--out": str(folder / "out")}
    options |= {f"--{name}": value for name, value in more.items()}
    return ["train", *(part for pair in options.items() for part in pair)]


def test_training_leaves_a_model_whose_two_files_agree_and_a_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags(folder)) == 0
    out = folder / "out"
    card = json.loads((out / "model.json").read_text(encoding="utf-8"))
    photos = dataset.load(folder).pixels(SIZE)
    with torch.inference_mode():
        by_torch = load_torch(out)(torch.from_numpy(photos)).numpy()
    assert np.abs(by_torch - export.onnx_logits(out / "model.onnx", photos)).max() < artefact.AGREEMENT
    assert card["digest"] == "sha256:" + export.sha256(out / "model.safetensors")
    assert card["data"]["photos"] == 20
    assert sum(card["score_histogram"]["desk"]) == 10
    assert str(folder) not in json.dumps(card)
    report = (out / "report/report.md").read_text(encoding="utf-8")
    for picture in (out / "report").glob("*.png"):
        assert picture.name in report
    assert (folder / "run/worst-mistakes.png").exists()
    assert "out of fold" in capsys.readouterr().out
    first = (out / "model.safetensors").read_bytes()

    again = ["--data", str(folder), "--run", str(folder / "run"), "--out", str(folder / "again")]
    assert main(["evaluate", *again]) == 0
    assert main(["export", *again]) == 0
    assert (folder / "again/model.safetensors").read_bytes() == first
    assert (folder / "again/report/report.md").read_text(encoding="utf-8") == report


def test_the_same_seed_trains_the_same_model(folder: Path, small: Settings) -> None:
    photos = dataset.load(folder)
    plain = photos.pixels(SIZE)
    whole = replace(small, fit=replace(small.fit, frozen_stages=0))
    runs = []
    for number in range(2):
        (folder / f"run-{number}").mkdir()
        runs.append(crossval.train(photos, plain, crossval.trunk_of(whole), whole, folder / f"run-{number}"))
    assert np.array_equal(runs[0].logits, runs[1].logits)
    assert np.ptp(runs[0].logits) > 0
    states = [run.final.backbone.state_dict() for run in runs]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"data": "nowhere"}, "is no folder"),
        ({"folds": "9"}, "lower the number of folds"),
        ({"backbone": "no_such_net"}, "list_models"),
        ({"backbone": "test_resnet"}, "frozen_stages 0"),
    ],
)
def test_what_the_user_can_mend_is_said_in_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], more: dict[str, str], said: str
) -> None:
    assert main(flags(folder, **more)) == 2
    assert said in " ".join(capsys.readouterr().out.split())


def test_a_run_is_not_evaluated_on_other_photos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--data", str(folder), "--run", str(folder / "none"), "--out", str(folder / "out")]) == 2
    assert "no finished run" in " ".join(capsys.readouterr().out.split())
