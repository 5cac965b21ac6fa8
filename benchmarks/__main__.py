"""`python -m benchmarks`: every load run, one after the other."""

from benchmarks import classify

classify.main()
