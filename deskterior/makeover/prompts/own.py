"""The prompts for our own model: far shorter than the others, because the usual text encoder reads 77 tokens.

One folder a version, one file a concept. The style comes first and `$description` last: what is cut off is of the
description. The photo itself tells the model what is where.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Self

from deskterior.makeover.prompts import FOLDER, frame, read
from deskterior.schemas import Concept, Description

CURRENT = "own_v1"
MAX_TOKENS = 75
"""CLIP's 77, less the two that begin and end a text."""
_TOKEN = re.compile(r"[A-Za-z]+|[0-9]|[^\sA-Za-z0-9]")
_WORD_LETTERS = 8


@dataclass(frozen=True)
class OwnPrompts:
    """One version of the prompts. `version` is the folder's name with a short digest of all its files."""

    version: str
    _styles: dict[Concept, Template]

    @classmethod
    def load(cls, version: str = CURRENT, folder: Path = FOLDER) -> Self:
        """Read a version's files. Raises PromptsError as `Prompts.load`."""
        texts = {concept: read(folder / version / f"{concept.value}.md") for concept in Concept}
        digest = hashlib.sha256()
        for concept in sorted(texts):
            digest.update(f"{concept.value}\0{texts[concept]}\0".encode())
        styles = {concept: frame(concept.value, texts[concept], {"description"}) for concept in Concept}
        return cls(f"{version}-{digest.hexdigest()[:8]}", styles)

    def render(self, concept: Concept, description: Description) -> str:
        """The style, and as much of the description as the model will read.

        Moods, tags and keywords are Korean, which these encoders take for noise; so is a description, if the vision
        model has answered in Korean after all: then the style draws alone.
        """
        style = self._styles[concept]
        told = " ".join(description.prompt.split())
        if not _is_english(told):
            told = ""
        room = MAX_TOKENS - tokens(style.substitute(description=""))
        return style.substitute(description=_cut(told, room)).strip().strip(",").rstrip()


def tokens(text: str) -> int:
    """About how many tokens CLIP makes of a text: rather too many than too few."""
    return sum(_tokens(piece) for piece in _TOKEN.findall(text))


def _tokens(piece: str) -> int:
    # Most English words are one token, longer ones are put together; what is not ASCII goes by its bytes.
    return -(-len(piece) // _WORD_LETTERS) if piece.isascii() else len(piece.encode("utf-8", "replace"))


def _is_english(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return sum(character.isascii() for character in letters) > 0.8 * len(letters)


def _cut(text: str, room: int) -> str:
    """As many of the first words as there is room for."""
    words: list[str] = []
    for word in text.split():
        room -= tokens(word)
        if room < 0:
            break
        words.append(word)
    return " ".join(words).rstrip(",;:(-")
