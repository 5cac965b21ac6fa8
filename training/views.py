"""All views of all photos, already through the frozen trunk: what every fold is trained and judged on."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from runners.desk_model import DeskModel
from training import export
from training.augment import augment
from training.dataset import SIZE, Dataset, Pixels
from training.settings import Settings
from training.split import Trunk

BATCH = 64
CHANNELS_LAST = torch.channels_last

Activations = npt.NDArray[np.float16] | Pixels


@dataclass(frozen=True)
class Views:
    """``activations[row]`` is a view of photo ``photo[row]``. The first rows are the plain photos, in their order."""

    activations: Activations  # (rows, c, h, w) float16, or photos (rows, 224, 224, 3) uint8 where nothing is frozen
    photo: npt.NDArray[np.intp]  # (rows,)
    count: int  # of photos

    def of(self, photos: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """The rows that show one of ``photos``."""
        return np.flatnonzero(np.isin(self.photo, photos))

    def first(self, views: int) -> npt.NDArray[np.intp]:
        """The plain rows, then those of the first ``views`` views of each photo."""
        order = np.argsort(self.photo, kind="stable")
        starts = np.searchsorted(self.photo[order], self.photo[order])
        return np.sort(order[np.arange(len(order)) - starts <= views])

    def tensor(self, rows: npt.NDArray[np.intp]) -> torch.Tensor:
        """Those rows, ready for a tail."""
        return as_input(self.activations[rows])

    def batches(self, rows: npt.NDArray[np.intp]) -> Iterator[torch.Tensor]:
        for start in range(0, len(rows), BATCH):
            yield self.tensor(rows[start : start + BATCH])


def as_input(activations: Activations) -> torch.Tensor:
    """Activations to float32 in channels-last; photos as they are."""
    if activations.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(activations))
    return torch.from_numpy(activations.astype(np.float32)).contiguous(memory_format=CHANNELS_LAST)


def plain(activations: Activations) -> Views:
    """Views that show each photo once."""
    return Views(activations, np.arange(len(activations)), len(activations))


class FrozenTrunk:
    """The trunk on ONNX Runtime, five times as fast as torch on a CPU. With nothing frozen it hands photos through."""

    def __init__(self, model: DeskModel, frozen: int, threads: int = 0) -> None:
        self.session = None
        if frozen:
            with tempfile.TemporaryDirectory() as folder:
                path = export.write_onnx(Trunk(model, frozen), export.example(), Path(folder) / "trunk.onnx")
                self.session = export.session(path, threads)

    def __call__(self, photos: Pixels) -> Activations:
        """Activations of photos ``(n, 224, 224, 3)``, for any ``n``."""
        if self.session is None:
            return photos
        parts = [self.session.run(None, {"photos": photos[at : at + BATCH]})[0] for at in range(0, len(photos), BATCH)]
        return np.concatenate(parts).astype(np.float16)


def make(dataset: Dataset, plain: Pixels, trunk: FrozenTrunk, settings: Settings, path: Path) -> Views:
    """Augment each photo as often as ``settings.views`` says and run all views through the trunk into ``path`` (.npy).

    ``plain`` are the photos as serving decodes them, ``(n, 224, 224, 3)``. A view depends on the seed, the number of
    the photo and that of the view alone.
    """
    large = dataset.pixels(settings.views.decode_size)
    wanted = np.where(dataset.labels, settings.views.desk, settings.views.not_desk)
    rows = [
        (photo, view) for view in range(1, int(wanted.max()) + 1) for photo in np.flatnonzero(wanted >= view).tolist()
    ]

    def batch(start: int) -> Pixels:
        return np.stack(
            [
                augment(large[photo], SIZE, settings.augmentation, np.random.default_rng((settings.seed, view, photo)))
                for photo, view in rows[start : start + BATCH]
            ]
        )

    first = trunk(plain)
    total = len(plain) + len(rows)
    activations: Activations = np.lib.format.open_memmap(
        path, mode="w+", dtype=first.dtype, shape=(total, *first.shape[1:])
    )
    activations[: len(plain)] = first
    starts = range(0, len(rows), BATCH)
    with ThreadPoolExecutor(1) as pool:  # augments the next batch while the trunk runs on this one
        ahead = pool.submit(batch, 0)
        for start in track(starts, f"{len(rows)} views"):
            photos = ahead.result()
            ahead = pool.submit(batch, start + BATCH) if start + BATCH < len(rows) else ahead
            at = len(plain) + start
            activations[at : at + len(photos)] = trunk(photos)
    photo = np.concatenate([np.arange(len(plain)), np.array([photo for photo, _ in rows], dtype=np.intp)])
    return Views(activations, photo, len(plain))
