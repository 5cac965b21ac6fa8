"""What is asked of the models, as versioned files: one folder a version, one file a concept, and three frames for them.

`describe_system.md` and `describe_user.md` go to the vision model, `render.md` to the image model; `$style` is the
concept's file and `$description` what the vision model told. A changed text changes `version`, which each task keeps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Self

from deskterior.schemas import Concept, Description

FOLDER = Path(__file__).parent
CURRENT = "v1"

_FRAMES = {"describe_system": {"style"}, "describe_user": {"style"}, "render": {"style", "description"}}


class PromptsError(ValueError):
    """The prompt files cannot be used; the text says which one and why."""


@dataclass(frozen=True)
class Prompts:
    """One version of the prompts. `version` is the folder's name with a short digest of all its files."""

    version: str
    _frames: dict[str, Template]
    _styles: dict[Concept, str]

    @classmethod
    def load(cls, version: str = CURRENT, folder: Path = FOLDER) -> Self:
        """Read a version's files.

        Raises:
            PromptsError: a file is missing, empty, not UTF-8, or has a placeholder that nothing fills.
        """
        names = [*_FRAMES, *(concept.value for concept in Concept)]
        texts = {name: read(folder / version / f"{name}.md") for name in names}
        digest = hashlib.sha256()
        for name in sorted(texts):
            digest.update(f"{name}\0{texts[name]}\0".encode())
        frames = {name: frame(name, texts[name], allowed) for name, allowed in _FRAMES.items()}
        styles = {concept: texts[concept.value] for concept in Concept}
        return cls(f"{version}-{digest.hexdigest()[:8]}", frames, styles)

    def describe(self, concept: Concept) -> tuple[str, str]:
        """The system's and the user's text for the vision model."""
        style = self._styles[concept]
        system, user = (self._frames[name].substitute(style=style) for name in ("describe_system", "describe_user"))
        return system, user

    def render(self, concept: Concept, description: Description) -> str:
        """The prompt for the image model: the style, what must stay where it is, and then the desk as it was told."""
        told = f"{description.prompt}\nMood: {description.mood}" if description.mood else description.prompt
        return self._frames["render"].substitute(style=self._styles[concept], description=told)


def read(path: Path) -> str:
    """A prompt file. Raises PromptsError."""
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptsError(f"the prompt {path.parent.name}/{path.name} cannot be read: {error}") from error
    if not text:
        raise PromptsError(f"the prompt {path.parent.name}/{path.name} is empty")
    return text


def frame(name: str, text: str, allowed: set[str]) -> Template:
    """A text with placeholders, of which only `allowed` will be filled. Raises PromptsError for another."""
    template = Template(text)
    if not template.is_valid() or not set(template.get_identifiers()) <= allowed:
        raise PromptsError(f"the prompt {name}.md has a placeholder besides {', '.join(sorted(allowed))}")
    return template
