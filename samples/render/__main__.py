"""Render the sample photos: python samples/render --out samples"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import desk
import dining_table
import empty_shelf
import photo


@dataclass(frozen=True)
class Sample:
    """One photo: what builds its scene, what sets up its camera and gives its size, and its exposure in stops."""

    build: Callable[[int], None]
    view: Callable[[], tuple[int, int]]
    seed: int
    exposure: float = 0.0
    held_upright: bool = False


SAMPLES = {
    "desk": Sample(desk.build, desk.landscape_view, 7, 0.5),
    "desk_portrait_phone": Sample(desk.build, desk.portrait_view, 7, 0.5, held_upright=True),
    "dining_table": Sample(dining_table.build, dining_table.landscape_view, 11, 0.4),
    "empty_shelf": Sample(empty_shelf.build, empty_shelf.landscape_view, 3, 0.55),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True, help="folder the photos go to")
    options.add_argument("--only", nargs="+", choices=SAMPLES, default=list(SAMPLES), help="leave out the others")
    options.add_argument("--scale", type=float, default=1.0, help="0.25 for a quick look")
    options.add_argument("--paths", type=int, default=12, help="light paths traced for each pixel, before denoising")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--exposure", type=float, default=0.0, help="stops to add to each photo's own")
    given = options.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only:
        sample, started = SAMPLES[name], time.monotonic()
        sample.build(sample.seed)
        width, height = (round(side * given.scale) for side in sample.view())
        exposure = sample.exposure + given.exposure
        clean = photo.render(width, height, given.paths, sample.seed, exposure, given.threads)
        size = photo.save(photo.developed(clean, sample.seed), given.out / f"{name}.jpg", sample.held_upright)
        print(f"{name}.jpg: {width} x {height}, {size // 1000} kB, {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
