"""Everything of the service that is not a model."""

from functools import cache
from pathlib import Path


@cache
def version() -> str:
    """The project's version, from `VERSION` beside the package's folder: the Bento carries it too."""
    return (Path(__file__).resolve().parent.parent / "VERSION").read_text().strip()
