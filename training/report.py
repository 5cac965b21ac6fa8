"""The report that people look at: ``report.md`` with small pictures. The worst mistakes go to the run's folder."""

from collections.abc import Iterable
from pathlib import Path

from training import plots
from training.crossval import Run
from training.dataset import Dataset, Pixels
from training.evaluate import Evaluation, Kind
from training.metrics import METRICS, Figure, calibration_error, recall, roc_auc, specificity

SHEET = "worst-mistakes.png"
ASKED = {"roc_auc": 0.99, "balanced_accuracy": 0.97, "calibration_error": 0.03}  # what the project set out to reach


def write(found: Evaluation, run: Run, dataset: Dataset, plain: Pixels, folder: Path) -> Path:
    """Write report and pictures into ``folder`` and the contact sheet into the run's. Returns the report's path.

    Nothing in ``folder`` shows or names a photo of the data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots.roc(found.curves, folder / "roc.png")
    plots.precision_recall(found.curves, folder / "precision_recall.png")
    plots.confusion(found.judged, folder / "confusion.png")
    plots.calibration(
        {"as gathered": found.judged, "classes weighing the same": found.balanced}, folder / "reliability.png"
    )
    plots.scores(found.judged, found.calibration.threshold, folder / "scores.png")
    worst = plots.worst(found.judged, found.calibration.threshold, 64)
    captions = [
        f"{found.judged.scores[at]:.2f} {'desk' if found.judged.labels[at] else 'not desk'}\n"
        f"{Path(dataset.photos[at].file).name}"
        for at in worst
    ]
    plots.contact_sheet(plain[worst], captions, run.folder / SHEET)
    path = folder / "report.md"
    path.write_text(text(found, run, dataset), encoding="utf-8")
    return path


def text(found: Evaluation, run: Run, dataset: Dataset) -> str:
    """The report in Markdown."""
    labels = dataset.labels
    wrong = found.judged.verdicts != labels
    parts = [
        f"# Desk classifier {run.settings.version}: how good is it?",
        f"{len(dataset)} photos, {labels.sum()} of them desks. Every figure is **out of fold**: a photo is judged by a "
        "model that saw no photo from its source, with temperature and threshold fitted without its fold "
        f"({run.settings.folds} folds). Intervals are 95 %, by a bootstrap over whole sources. The shipped model was "
        "fitted on all photos, so no figure here is its own: they are those of its siblings, each trained on the other "
        "folds.",
        "Repositories that gather photos of many makers (listed as `collections` in the settings) have their not-desks "
        "dealt to the folds photo by photo; desks never are.",
        _subset_table(found),
        _reached(found),
        "![Scores](scores.png) ![Confusion](confusion.png)",
        "![ROC](roc.png) ![Precision and recall](precision_recall.png)",
        "## Are scores honest?",
        "`score = sigmoid(logit / temperature)`. Temperature and a shift of the bias were fitted with both classes "
        "weighing the same, because what people send is not the mixture gathered here: 0.5 then means even odds for "
        "someone who is as likely as not to send a desk.",
        f"Temperature {found.calibration.temperature:.3f}, threshold {found.calibration.threshold:.3f}. With classes "
        f"weighing the same the expected calibration error is {calibration_error(found.balanced):.3f}. Among the "
        f"photos as gathered here, {labels.mean():.0%} desks, scores in the middle promise too much, as they must.",
        "![Reliability](reliability.png)",
        "## Against the baselines",
        _baseline_table(found),
        "Zero-shot adds up what ImageNet's own head gives to desk, desktop computer, monitor, screen, keyboard, mouse, "
        "notebook and laptop. Both baselines have their threshold fitted in the same way.",
        "## Which photos it gets wrong",
        f"{(wrong & labels).sum()} of {labels.sum()} desks are missed; {(wrong & ~labels).sum()} of {(~labels).sum()} "
        "others are called desk.",
        _kind_table("Not a desk", "called desk", found.not_desks),
        _kind_table("Desk", "missed", found.desks),
        "The worst mistakes as a contact sheet: `python -m training evaluate --data FOLDER --run RUN` writes "
        f"`RUN/{SHEET}`. It shows photos of other people, so it is not kept here.",
        "## Damaged photos",
        f"{found.sampled[0]} photos ({found.sampled[1]} desks, as many others drawn by weight), each through one "
        "change, judged by the model that has not seen its source, at one threshold for all.",
        _damage_table(found),
        "A screenshot counts as what its picture shows: one photo across the width of an app's screen is what the "
        "person wants judged, so a desk in such a frame should stay a desk.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _words(metric: str) -> str:
    return (
        metric.replace("_", " ").replace("roc auc", "ROC AUC").replace("calibration error", "calibration error (ECE)")
    )


def _subset_table(found: Evaluation) -> str:
    return _table(
        ["", *(f"{name} ({found.counts[name][0]}, {found.counts[name][1]} desks)" for name in found.subsets)],
        ([_words(metric), *(str(figures[metric]) for figures in found.subsets.values())] for metric in METRICS),
    )


def _reached(found: Evaluation) -> str:
    def verdict(metric: str, value: Figure) -> str:
        good = value.value <= ASKED[metric] if metric == "calibration_error" else value.value >= ASKED[metric]
        return f"{value.value:.3f}, {'reached' if good else 'not reached'}"

    return "Set out to reach:\n\n" + _table(
        ["", "asked", *found.subsets],
        (
            [_words(metric), str(asked), *(verdict(metric, figures[metric]) for figures in found.subsets.values())]
            for metric, asked in ASKED.items()
        ),
    )


def _baseline_table(found: Evaluation) -> str:
    rows = []
    for name, subsets in {"fine-tuned (this model)": found.subsets, **found.others}.items():
        for subset, figures in subsets.items():
            rows.append(
                [
                    f"{name}, {subset}",
                    str(figures["roc_auc"]),
                    str(figures["balanced_accuracy"]),
                    str(figures["calibration_error"]),
                ]
            )
    return _table(["", "ROC AUC", "balanced accuracy", "ECE"], rows)


def _kind_table(title: str, mistake: str, kinds: list[Kind]) -> str:
    return _table(
        [title, "photos", mistake, "share"],
        ([each.name, str(each.photos), str(each.wrong), f"{each.wrong / each.photos:.1%}"] for each in kinds),
    )


def _damage_table(found: Evaluation) -> str:
    head = ["Change", "ROC AUC", "desks found", "others turned away"]
    rows = []
    for each in found.damages:
        rows.append([each.name])
        for judged in (each.model, each.probe):
            rows[-1] += [f"{roc_auc(judged):.3f}", f"{recall(judged):.1%}", f"{specificity(judged):.1%}"]
    return _table([*head, *(f"linear probe: {name}" for name in head[1:])], rows)
