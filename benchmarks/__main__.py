"""`python -m benchmarks`: every load run, one after the other. For a quiet machine; ten minutes."""

from benchmarks import classify, generate

classify.main()
generate.main()
