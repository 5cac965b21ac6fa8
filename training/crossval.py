"""Train on all folds but one and judge on that one, for each; then train on everything. A folder keeps it all."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from runners.desk_model import DeskModel
from training import backbone, fit, folds, views
from training.dataset import Dataset, Pixels
from training.settings import Settings, from_dict

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]


class RunError(ValueError):
    """A run folder cannot be used; the message says why."""


@dataclass(frozen=True)
class Run:
    """A trained run in ``folder``: the model of each fold, the final one, and out-of-fold logits ``(n,)``."""

    folder: Path
    settings: Settings
    fold: Indices  # (n,): of each photo
    logits: Floats  # by the model that has not seen the photo
    features: Floats  # (n, d) of the plain photos, by the untrained backbone: for the baselines
    models: list[DeskModel]  # one a fold
    final: DeskModel

    def held_out(self, photos: Indices, activations: views.Activations) -> Floats:
        """Out-of-fold logits ``(len(photos),)`` of other pictures of those photos, already through the trunk."""
        bank = views.plain(activations)
        logits = np.empty(len(photos), dtype=np.float32)
        for number, model in enumerate(self.models):
            rows = np.flatnonzero(self.fold[photos] == number)
            if len(rows):
                logits[rows] = fit.logits(model, bank, rows, self.settings.fit.frozen_stages)
        return logits


def train(
    dataset: Dataset,
    plain: Pixels,
    trunk: views.FrozenTrunk,
    settings: Settings,
    folder: Path,
    say: Callable[[str], None] = print,
) -> Run:
    """Cross-validate and fit the final model. Deterministic for the same data, settings and machine.

    ``plain`` are the photos as serving decodes them, ``(n, 224, 224, 3)``.
    """
    frozen = settings.fit.frozen_stages
    fold = folds.assign(dataset, settings.folds, settings.collections, settings.seed)
    for number in range(settings.folds):
        inside = dataset.labels[fold == number]
        say(f"fold {number}: {len(inside)} photos, {inside.sum()} desks")
    start = untrained(settings)
    bank = views.make(dataset, plain, trunk, settings, folder / "views.npy")
    examples = fit.Examples(bank, dataset.labels, folds.weights(dataset))
    given = fit.features(start, bank, bank.first(settings.views.probe), frozen, "features for the probe")
    everything = np.arange(len(dataset))
    logits = np.empty(len(dataset), dtype=np.float32)
    models: list[DeskModel] = []
    for number in range(settings.folds):
        inside, outside = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        model = _fitted(start, given, examples, outside, settings, f"fold {number}")
        logits[inside] = fit.logits(model, bank, inside, frozen)
        models.append(model)
    final = _fitted(start, given, examples, everything, settings, "on everything")
    run = Run(folder, settings, fold, logits, given.values[: len(dataset)], models, final)
    save(run, dataset)
    (folder / "views.npy").unlink()
    return run


def _fitted(
    start: DeskModel, given: fit.Features, examples: fit.Examples, photos: Indices, settings: Settings, name: str
) -> DeskModel:
    head = fit.probe(given, examples, photos, settings.fit.probe_regularisation)
    return fit.tune(fit.probed(start, head), examples, photos, settings.fit, settings.seed, name)


def untrained(settings: Settings) -> DeskModel:
    """The model that a run starts from; the same one each time, random weights too."""
    torch.manual_seed(settings.seed)
    return backbone.desk_model(settings.backbone)


def trunk_of(settings: Settings) -> views.FrozenTrunk:
    """The frozen stages that all models of a run share. Sets torch's threads as the settings say."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return views.FrozenTrunk(untrained(settings), settings.fit.frozen_stages, settings.threads)


def save(run: Run, dataset: Dataset) -> None:
    """Write the run into its folder, with the resolved settings beside it."""
    (run.folder / "settings.json").write_text(json.dumps(run.settings.as_dict(), indent=2) + "\n", encoding="utf-8")
    (run.folder / "data.txt").write_text(dataset.digest() + "\n", encoding="utf-8")
    np.savez(
        run.folder / "out_of_fold.npz",
        fold=run.fold,
        logits=run.logits,
        features=run.features,
    )
    for number, model in enumerate([*run.models, run.final]):
        name = f"fold-{number}" if number < len(run.models) else "final"
        save_file(model.backbone.state_dict(), run.folder / f"{name}.safetensors")


def load(folder: Path, dataset: Dataset) -> Run:
    """Read a run back. Raises ``RunError`` if it is not whole or the photos are not those it was trained on."""
    try:
        settings = from_dict(json.loads((folder / "settings.json").read_text(encoding="utf-8")))
        kept = np.load(folder / "out_of_fold.npz")
        digest = (folder / "data.txt").read_text(encoding="utf-8").strip()
        names = [*(f"fold-{number}" for number in range(settings.folds)), "final"]
        weights = [load_file(folder / f"{name}.safetensors") for name in names]
    except FileNotFoundError as error:
        raise RunError(f"{folder} is no finished run ({error.filename} is missing); make one with `train`") from error
    if digest != dataset.digest():
        raise RunError(f"{folder} was trained on other photos than those in {dataset.folder}")
    models = []
    for state in weights:
        model = backbone.desk_model(settings.backbone)
        model.backbone.load_state_dict(state)
        models.append(model)
    return Run(folder, settings, kept["fold"], kept["logits"], kept["features"], models[:-1], models[-1])
