"""The pictures of the report, as small PNG files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image, ImageDraw
from sklearn.metrics import precision_recall_curve, roc_curve

from training.dataset import Pixels
from training.metrics import Judged, average_precision, calibration_error, reliability, roc_auc

mpl.use("Agg")
INK, DESK, OTHER, QUIET = "#22303c", "#d9772b", "#3f7d8c", "#b8c0c6"
COLOURS = (DESK, OTHER, QUIET)


@contextmanager
def _figure(path: Path, width: float = 4.8, height: float = 4.0) -> Iterator[Axes]:
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK}):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
        yield axes
        figure.savefig(path, dpi=110, metadata={"Software": ""})
        plt.close(figure)


def roc(curves: Mapping[str, Judged], path: Path) -> None:
    """ROC curves, the corner that matters: false positives up to 0.3."""
    with _figure(path) as axes:
        for (name, judged), colour in zip(curves.items(), COLOURS, strict=False):
            false, true, _ = roc_curve(judged.labels, judged.scores)
            axes.plot(false, true, color=colour, label=f"{name}: {roc_auc(judged):.3f}")
        axes.set(
            xlim=(-0.003, 0.3), ylim=(0.7, 1.003), xlabel="of not-desks, called desk", ylabel="of desks, called desk"
        )
        axes.set_title("ROC, colour photos, out of fold (area)", loc="left")
        axes.legend(frameon=False, loc="lower right")


def precision_recall(curves: Mapping[str, Judged], path: Path) -> None:
    with _figure(path) as axes:
        for (name, judged), colour in zip(curves.items(), COLOURS, strict=False):
            precision, recall, _ = precision_recall_curve(judged.labels, judged.scores)
            axes.plot(recall, precision, color=colour, label=f"{name}: {average_precision(judged):.3f}")
        axes.set(xlim=(0, 1.005), ylim=(0.4, 1.005), xlabel="recall", ylabel="precision")
        axes.set_title("Precision and recall, colour photos (average precision)", loc="left")
        axes.legend(frameon=False, loc="lower left")


def confusion(judged: Judged, path: Path) -> None:
    counts = np.array(
        [
            [np.sum((judged.labels == truth) & (judged.verdicts == said)) for said in (True, False)]
            for truth in (True, False)
        ]
    )
    with _figure(path, 3.6, 3.2) as axes:
        axes.imshow(counts / counts.sum(axis=1, keepdims=True), cmap="YlOrBr", vmin=0, vmax=1.6)
        for row in range(2):
            for column in range(2):
                share = counts[row, column] / counts[row].sum()
                axes.text(column, row, f"{counts[row, column]}\n{share:.1%}", ha="center", va="center", fontsize=12)
        axes.set_xticks([0, 1], ["said desk", "said not desk"])
        axes.set_yticks([0, 1], ["desk", "not desk"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("Confusion, all photos", loc="left")


def calibration(judged: Mapping[str, Judged], path: Path) -> None:
    """Reliability diagram; a larger dot is more photos, on a logarithmic scale."""
    with _figure(path) as axes:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1)
        for (name, each), colour in zip(judged.items(), COLOURS, strict=False):
            rows = reliability(each)
            scores, shares = [row[1] for row in rows], [row[2] for row in rows]
            axes.plot(scores, shares, color=colour, linewidth=1, label=f"{name}: {calibration_error(each):.3f}")
            axes.scatter(scores, shares, s=[12 * np.log2(row[3] + 2) for row in rows], color=colour, zorder=3)
        axes.set(xlim=(-0.03, 1.05), ylim=(-0.05, 1.05), xlabel="score", ylabel="share that are desks")
        axes.set_title("Reliability, all photos (expected error)", loc="left")
        axes.legend(frameon=False, loc="upper left")


def scores(judged: Judged, threshold: float, path: Path) -> None:
    """Histogram of scores by class, on a logarithmic count."""
    edges = np.linspace(0, 1, 41).tolist()
    with _figure(path) as axes:
        axes.hist(judged.scores[~judged.labels], edges, color=OTHER, alpha=0.8, label="not desk")
        axes.hist(judged.scores[judged.labels], edges, color=DESK, alpha=0.7, label="desk")
        axes.axvline(threshold, color=INK, linewidth=1, linestyle="--", label=f"threshold {threshold:.2f}")
        axes.set(yscale="log", xlabel="score", ylabel="photos")
        axes.set_title("Scores, all photos, out of fold", loc="left")
        axes.legend(frameon=False)


def contact_sheet(photos: Pixels, captions: list[str], path: Path, columns: int = 8, tile: int = 176) -> None:
    """Photos ``(n, h, w, 3)`` in rows, each with a caption. For the run's folder alone: it shows the data set."""
    rows = max(1, -(-len(photos) // columns))
    sheet = Image.new("RGB", (columns * tile, rows * (tile + 28)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (photo, caption) in enumerate(zip(photos, captions, strict=True)):
        left, top = number % columns * tile, number // columns * (tile + 28)
        sheet.paste(Image.fromarray(photo).resize((tile - 4, tile - 4)), (left + 2, top + 2))
        draw.multiline_text((left + 4, top + tile), caption, fill="black", font_size=10, spacing=1)
    sheet.save(path, optimize=True)


def worst(judged: Judged, threshold: float, count: int) -> npt.NDArray[np.intp]:
    """The mistakes, those furthest beyond the threshold first."""
    wrong = np.flatnonzero(judged.verdicts != judged.labels)
    return wrong[np.argsort(-np.abs(judged.scores[wrong] - threshold))][:count]
