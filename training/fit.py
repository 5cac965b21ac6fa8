"""Train one tail: a linear probe, then from there on all layers behind the trunk (LP-FT, Kumar et al. 2022)."""

import copy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from runners.desk_model import DeskModel
from training.settings import FitSettings
from training.split import Tail
from training.views import BATCH, CHANNELS_LAST, Views

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Examples:
    """What a fit learns from: views, and per photo ``(n,)`` its label and its weight."""

    views: Views
    labels: npt.NDArray[np.bool_]
    weights: Floats


@dataclass(frozen=True)
class Features:
    """Pooled features ``(rows, d)`` that the untrained tail gives the views in ``rows``: the probe's input."""

    values: npt.NDArray[np.float32]
    rows: Indices


def features(model: DeskModel, views: Views, rows: Indices, frozen: int, name: str = "") -> Features:
    """Run ``rows`` through the untrained tail, with a progress bar if that has a ``name``."""
    tail = Tail(copy.deepcopy(model).to(memory_format=CHANNELS_LAST), frozen).eval()
    with torch.inference_mode():
        batches = track(list(range(0, len(rows), BATCH)), name, disable=not name)
        parts = [tail.features(views.tensor(rows[at : at + BATCH])).numpy() for at in batches]
    return Features(np.concatenate(parts), rows)


def probe(given: Features, examples: Examples, photos: Indices, regularisation: float) -> LogisticRegression:
    """Logistic regression on the features of ``photos``, each photo by its weight however many views it has."""
    chosen = np.isin(examples.views.photo[given.rows], photos)
    photo = examples.views.photo[given.rows][chosen]
    shown = np.bincount(photo, minlength=len(examples.labels))
    weight = examples.weights[photo] / shown[photo]
    found = LogisticRegression(C=regularisation, max_iter=300, tol=1e-3)
    found.fit(given.values[chosen], examples.labels[photo], sample_weight=weight / weight.mean())
    return found


def probed(model: DeskModel, found: LogisticRegression) -> DeskModel:
    """A copy of the model with the probe as its head."""
    copied = copy.deepcopy(model)
    head = Tail(copied, 0).head
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(found.coef_))
        head.bias.copy_(torch.from_numpy(found.intercept_))
    return copied


def tune(
    start: DeskModel, examples: Examples, photos: Indices, settings: FitSettings, seed: int, name: str
) -> DeskModel:
    """Fine-tune ``start`` on ``photos``; returns the average of its weights, drawn back to ``start`` as settings say.

    Half of what is drawn are desks. Batch normalisation keeps ImageNet's statistics: batches are small and augmented.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = copy.deepcopy(start).requires_grad_(False).to(memory_format=CHANNELS_LAST)
    tail = Tail(model, settings.frozen_stages).eval()
    trained = [*tail.trained(), *tail.head.parameters()]
    for parameter in trained:
        parameter.requires_grad_(True)
    steps = settings.epochs * settings.photos_per_epoch // settings.batch
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=steps, pct_start=0.15)
    average = [parameter.detach().clone() for parameter in trained]
    begin = [parameter.detach().clone() for parameter in trained]
    rows_of = _rows_by_photo(examples.views)
    chance = examples.weights[photos] / examples.weights[photos].sum()
    for step in track(range(steps), f"tuning {name}"):
        drawn = random.choice(photos, settings.batch, p=chance)
        rows = np.sort([random.choice(rows_of[photo]) for photo in drawn])
        target = torch.from_numpy(examples.labels[examples.views.photo[rows]].astype(np.float32))
        smooth = target * (1.0 - settings.label_smoothing) + settings.label_smoothing / 2.0
        pooled = functional.dropout(tail.features(examples.views.tensor(rows)), settings.dropout)
        loss = functional.binary_cross_entropy_with_logits(tail.head(pooled).squeeze(1), smooth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        memory = min(settings.average, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, parameter in zip(average, trained, strict=True):
                mean.lerp_(parameter, 1.0 - memory)
    with torch.no_grad():
        for parameter, first, mean in zip(trained, begin, average, strict=True):
            parameter.copy_(torch.lerp(first, mean, settings.towards_tuned))
    return model.requires_grad_(False).to(memory_format=torch.contiguous_format).eval()


def _rows_by_photo(views: Views) -> list[Indices]:
    order = np.argsort(views.photo, kind="stable")
    return np.split(order, np.cumsum(np.bincount(views.photo, minlength=views.count))[:-1])


def logits(model: DeskModel, inputs: Views, rows: Indices, frozen: int) -> npt.NDArray[np.float32]:
    """Logits ``(len(rows),)`` of those views."""
    tail = Tail(copy.deepcopy(model).to(memory_format=CHANNELS_LAST), frozen).eval()
    with torch.inference_mode():
        return np.concatenate([tail(batch).numpy() for batch in inputs.batches(rows)])
