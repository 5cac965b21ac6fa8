"""The folder of labelled photos: what is in it, where each came from, and its pixels as serving would see them."""

import csv
import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from deskterior.errors import PhotoError
from deskterior.photos import SIZE, decode

CLASSES = ("not_desk", "desk")
SPLITS = ("train", "val")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
GREY_CHROMA = 6.0  # mean of max-min over RGB, 0-255, under which a photo looks grey; JPEG leaves greys at 0 to 3

__all__ = ["CLASSES", "SIZE", "Dataset", "DatasetError", "Photo", "Pixels", "grey", "load"]

Pixels = npt.NDArray[np.uint8]


class DatasetError(ValueError):
    """The folder cannot be trained on; the message says what to mend."""


@dataclass(frozen=True)
class Photo:
    """One labelled photo. ``source`` is whose it is: photos of one source must not be on both sides of a fold."""

    file: str  # relative to the folder, with forward slashes
    desk: bool
    split: str
    source: str
    source_path: str

    @property
    def family(self) -> str:
        """The collection, by the first part of the file's name: ``web2_0001.jpg`` is of ``web2``."""
        return Path(self.file).stem.split("_")[0]


@dataclass(frozen=True)
class Dataset:
    """The photos of a folder, in the order of their file names."""

    folder: Path
    photos: tuple[Photo, ...]

    @property
    def labels(self) -> npt.NDArray[np.bool_]:
        """``(n,)``: is it a desk?"""
        return np.array([photo.desk for photo in self.photos], dtype=bool)

    @property
    def families(self) -> npt.NDArray[np.str_]:
        return np.array([photo.family for photo in self.photos])

    @property
    def sources(self) -> npt.NDArray[np.str_]:
        return np.array([photo.source for photo in self.photos])

    def __len__(self) -> int:
        return len(self.photos)

    def pixels(self, size: int) -> Pixels:
        """Decode every photo to ``(n, size, size, 3)`` uint8, by the function that serving decodes with.

        Raises ``DatasetError`` naming each photo that cannot be read.
        """
        pixels = np.empty((len(self), size, size, 3), dtype=np.uint8)
        broken: list[str] = []

        def read(index: int) -> None:
            file = self.photos[index].file
            try:
                pixels[index] = decode((self.folder / file).read_bytes(), size)
            except (PhotoError, OSError) as error:
                broken.append(f"  {file}: {error}")

        with ThreadPoolExecutor() as pool:
            done = pool.map(read, range(len(self)))
            for _ in track(done, f"decoding at {size} px", total=len(self)):
                pass
        if broken:
            raise DatasetError("unreadable photos; remove or replace them:\n" + "\n".join(sorted(broken)))
        return pixels

    def digest(self) -> str:
        """SHA-256 over names, labels and bytes of all photos: the same digest is the same data."""
        total = hashlib.sha256()
        for photo in self.photos:
            content = hashlib.sha256((self.folder / photo.file).read_bytes()).hexdigest()
            total.update(f"{photo.file} {photo.desk} {photo.source} {content}\n".encode())
        return total.hexdigest()


def load(folder: Path) -> Dataset:
    """Find the photos of ``folder/{train,val}/{desk,not_desk}``; ``val`` may be missing.

    ``SOURCES.csv`` (columns ``file``, ``source_repo``, ``source_path``) says where each came from. A photo it does not
    name is its own source. Raises ``DatasetError`` for a folder that cannot be trained on.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder; give one that holds train/desk and train/not_desk")
    sources = _sources(folder / "SOURCES.csv")
    found: list[Photo] = []
    for split in SPLITS:
        for name in CLASSES:
            for path in sorted((folder / split / name).glob("*")):
                if path.suffix.lower() in SUFFIXES:
                    file = path.relative_to(folder).as_posix()
                    source, source_path = sources.get(file, (file, path.name))
                    found.append(Photo(file, name == "desk", split, source, source_path))
    counts = Counter(photo.desk for photo in found if photo.split == "train")
    for name in CLASSES:
        if counts[name == "desk"] == 0:
            raise DatasetError(
                f"{folder / 'train' / name} holds no photo; put some there ({', '.join(sorted(SUFFIXES))})"
            )
    return Dataset(folder, tuple(found))


def _sources(path: Path) -> dict[str, tuple[str, str]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        missing = {"file", "source_repo", "source_path"} - set(rows.fieldnames or ())
        if missing:
            raise DatasetError(f"{path} lacks the column {', '.join(sorted(missing))}")
        return {row["file"]: (row["source_repo"], row["source_path"]) for row in rows}


def grey(pixels: Pixels) -> npt.NDArray[np.bool_]:
    """``(n,)``: does the photo, of ``(n, h, w, 3)``, have no colour to speak of?"""
    return np.array([_chroma(photo) < GREY_CHROMA for photo in pixels], dtype=bool)


def _chroma(photo: Pixels) -> float:
    return float((photo.max(axis=2) - photo.min(axis=2)).mean())
