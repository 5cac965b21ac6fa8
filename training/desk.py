"""``train``, ``evaluate``, ``export``: photos -> cross-validation -> final fit -> report -> exported classifier."""

import argparse
import json
import shlex
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from training import artefact, calibrate, crossval, dataset, evaluate, export, folds, report, settings
from training.artefact import ArtefactError
from training.backbone import BackboneError
from training.crossval import RunError
from training.dataset import SIZE, Dataset, DatasetError, Pixels
from training.settings import SettingsError
from training.views import FrozenTrunk

METRICS = "metrics.json"
console = Console()


def run(options: argparse.Namespace, given: list[str]) -> int:
    """Do what the subcommand says. Returns the exit status: 2 for input that the user can mend, said in one message."""
    try:
        photos = dataset.load(options.data)
        if options.do == "train":
            _train(photos, options, given)
        else:
            run = crossval.load(options.run, photos)
            plain = photos.pixels(SIZE)
            if options.do == "evaluate":
                _evaluate(photos, run, plain, crossval.trunk_of(run.settings), options.out)
            else:
                _export(photos, run, plain, options.out)
    except (DatasetError, SettingsError, BackboneError, RunError, ArtefactError) as error:
        console.print(f"[red]error:[/] {error}", highlight=False)
        return 2
    return 0


def _train(photos: Dataset, options: argparse.Namespace, given: list[str]) -> None:
    began = time.monotonic()
    resolved = settings.resolve(options)
    folder: Path = options.run or Path("runs") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    console.print_json(data=resolved.as_dict())
    trunk = crossval.trunk_of(resolved)
    plain = photos.pixels(SIZE)
    run = crossval.train(photos, plain, trunk, resolved, folder, console.print)
    _evaluate(photos, run, plain, trunk, options.out)
    command = {"command": _command(given), "seconds": round(time.monotonic() - began)}
    (folder / "command.json").write_text(json.dumps(command), encoding="utf-8")
    _export(photos, run, plain, options.out)
    console.print(f"done in {command['seconds']} s; run in {folder}, model in {options.out}", highlight=False)


def _command(given: list[str]) -> str:
    """The command line as anyone would give it: without the places of data, run and model on this machine."""
    kept = [part for part in given if not part.startswith(("--data=", "--run=", "--out="))]
    for flag in ("--data", "--run", "--out"):
        if flag in kept:
            at = kept.index(flag)
            del kept[at : at + 2]
    return shlex.join(["python", "-m", "training", kept[0], "--data", "FOLDER", *kept[1:]])


def _evaluate(photos: Dataset, run: crossval.Run, plain: Pixels, trunk: FrozenTrunk, out: Path) -> None:
    found = evaluate.evaluate(photos, run, plain, trunk)
    path = report.write(found, run, photos, plain, out / "report")
    metrics = {
        subset: {
            name: {"value": figure.value, "low": figure.low, "high": figure.high} for name, figure in figures.items()
        }
        for subset, figures in found.subsets.items()
    }
    (run.folder / METRICS).write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    table = Table(title="out of fold, with 95 % intervals")
    table.add_column("")
    for subset in found.subsets:
        table.add_column(subset, justify="right")
    for name in next(iter(found.subsets.values())):
        table.add_row(name, *(str(figures[name]) for figures in found.subsets.values()))
    console.print(table)
    console.print(f"report: {path}; the worst mistakes: {run.folder / report.SHEET}", highlight=False)


def _export(photos: Dataset, run: crossval.Run, plain: Pixels, out: Path) -> None:
    """Model files, with figures and the training command from the run's folder."""
    try:
        metrics = json.loads((run.folder / METRICS).read_text(encoding="utf-8"))
        training = json.loads((run.folder / "command.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{run.folder} lacks {error.filename}; run `train` or `evaluate` first") from error
    calibration = calibrate.fit(run.logits, photos.labels, folds.weights(photos))
    model = artefact.shifted(run.final, calibration)
    scores = calibration.scores(run.logits)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=out) as staging:  # a model in use is never half replaced
        staged = Path(staging)
        files = artefact.write_weights(model, staged)
        card = artefact.Card(
            name=run.settings.name,
            version=run.settings.version,
            created=datetime.now(UTC).date().isoformat(),
            digest="sha256:" + files[export.WEIGHTS].sha256,
            backbone=run.settings.backbone,
            input=artefact.Input(model.mean.flatten().tolist(), model.std.flatten().tolist()),
            temperature=calibration.temperature,
            threshold=calibration.threshold,
            files=files,
            data=artefact.data(photos),
            metrics=metrics,
            score_histogram=artefact.histogram(scores, photos.labels),
            training=artefact.Training(training["command"], training["seconds"], run.settings.as_dict()),
        )
        artefact.write_card(card, staged)
        apart = artefact.verify(staged, plain[:: max(1, len(plain) // 200)], model)
        for name in (*files, artefact.CARD):
            (staged / name).replace(out / name)
    size = sum(file.bytes for file in files.values())
    console.print(f"{' and '.join(files)}: {size / 1e6:.1f} MB, logits within {apart:.1e} of each other")
