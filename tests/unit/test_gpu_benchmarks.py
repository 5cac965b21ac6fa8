"""The GPU benchmarks where there is no GPU: every line runs at tiny sizes, and the kept results are left alone."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import gpu, gpu_card, gpu_classify, gpu_decode, gpu_draw, report

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # diffusers' own, of NumPy 2
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),  # two adapters, on purpose
    pytest.mark.filterwarnings("ignore:Dynamo detected a call:UserWarning"),  # torch.compile of diffusers
    pytest.mark.filterwarnings(
        "ignore:The image decoding:DeprecationWarning"
    ),  # torchvision: nvJPEG moves to torchcodec
]


def failures(found: object) -> list[str]:
    """Errors of any cell, wherever it is."""
    if isinstance(found, dict):
        return [found["error"]] if "error" in found else [each for value in found.values() for each in failures(value)]
    return [each for value in found for each in failures(value)] if isinstance(found, list) else []


@pytest.mark.parametrize("benchmark", [gpu_classify, gpu_decode, gpu_draw])
def test_every_line_runs_tiny_on_a_cpu_and_writes_json_and_a_table(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {path: path.stat().st_mtime_ns for path in report.RESULTS.iterdir()}
    precision = torch.get_float32_matmul_precision()
    try:
        benchmark.main(["--tiny", "--device", "cpu", "--out", str(tmp_path)])
    finally:
        torch.set_float32_matmul_precision(precision)
    name = benchmark.__name__.split(".")[-1]
    results = json.loads((tmp_path / f"{name}.json").read_text())
    assert failures(results) == []
    table = (tmp_path / f"{name}.md").read_text()
    assert table in capsys.readouterr().out
    assert table.startswith("# ")
    assert "failed" not in table
    assert {path: path.stat().st_mtime_ns for path in report.RESULTS.iterdir()} == kept


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("benchmark", [gpu, gpu_classify, gpu_decode, gpu_draw])
def test_without_a_gpu_each_says_so_in_a_sentence(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark.main([])
    assert ended.value.code == 2
    assert "There is no GPU that torch can use here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--device", "cpu"], ["--tiny", "--device", "cpu", "--out", str(report.RESULTS)]],
)
def test_figures_of_a_cpu_never_look_like_a_cards(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpu_card.asked("gpu", "", arguments)
    assert ended.value.code == 2
    assert "tiny run" in capsys.readouterr().err
