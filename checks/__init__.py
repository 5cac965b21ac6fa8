"""What `make check` looks at besides style and types: secrets in tracked files, and dependencies with known holes."""
