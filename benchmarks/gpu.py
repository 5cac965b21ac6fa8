"""`python -m benchmarks.gpu`: everything that wants a GPU, one after the other; half an hour."""

from __future__ import annotations

import sys

from benchmarks import gpu_card, gpu_classify, gpu_decode, gpu_draw


def main(arguments: list[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    gpu_card.asked("gpu", __doc__ or "", given)
    for benchmark in (gpu_classify, gpu_decode, gpu_draw):
        benchmark.main(given)


if __name__ == "__main__":
    main()
