"""The wire between the API and whatever draws (docs/drawing-runner.md): paths, limits, and the lines of a drawing.

What is sent is in `drawing_server`, what is received in `remote_drawing`. Both hold these limits against the other.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Annotated, Self

from pydantic import Base64Bytes, BaseModel, Field

from deskterior.errors import DeskteriorError
from deskterior.schemas import Concept
from runners.drawing import DrawnPicture

DRAW_PATH = "/draw"
MODEL_PATH = "/drawing-model"
NDJSON = "application/x-ndjson"
PICTURE_TYPES = ("image/png", "image/jpeg", "image/webp")
SEED = "X-Drawing-Seed"
VERSION = "X-Drawing-Version"

HEARTBEAT_S = 5.0
"""A drawing that has nothing to tell says at least that it lives."""
SILENCE_S = 30.0
"""So long without a line, and the runner is dead, or as good as that."""
MAX_PHOTO = 32 * 1024 * 1024
MAX_PICTURE = 32 * 1024 * 1024
MAX_PROMPT = 32_000
"""Characters."""
MAX_BODY = MAX_PHOTO + 4 * MAX_PROMPT + 64 * 1024
"""A whole request: the photo, the prompt in UTF-8, and what is around them."""
MAX_LINE = math.ceil(MAX_PICTURE / 3) * 4 + 4096
MAX_TOLD = 1024 * 1024
"""All lines of a drawing together, besides the one with the picture."""
MAX_STEPS = 10_000

Step = Annotated[int, Field(ge=0, le=MAX_STEPS)]


class Order(BaseModel):
    """The field `request` of `POST /draw`."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT)
    concept: Concept = Concept.BASIC
    seed: int | None = Field(default=None, ge=0, lt=2**63)


class Told(BaseModel):
    """A line of a drawing that goes on; of one that only says that it lives, both are 0."""

    step: Step = 0
    of: Step = 0


class Refused(BaseModel):
    """A problem (RFC 9457) as far as the wire needs it."""

    type: str = Field(default="", max_length=200)
    status: int = 500
    detail: str = Field(default="", max_length=4000)
    retry_after: float | None = None

    @property
    def slug(self) -> str:
        return self.type.rpartition("/")[2]


class Line(Told):
    """Any line: a step, a picture, or a problem."""

    picture: Base64Bytes | None = None
    content_type: str = Field(default="", max_length=100)
    seed: int | None = None
    version: str = Field(default="", max_length=200)
    problem: Refused | None = None

    @classmethod
    def read(cls, line: bytes) -> Self:
        """Raises ValueError for what is no line of a drawing."""
        return cls.model_validate_json(line)


def step_line(step: int, of: int) -> bytes:
    return b'{"step": %d, "of": %d}\n' % (step, of)


HEARTBEAT = b'{"alive": true}\n'


def picture_line(picture: DrawnPicture) -> bytes:
    """The last line of a drawing that came to something."""
    line = {
        "picture": base64.b64encode(picture.image).decode(),
        "content_type": picture.content_type,
        "seed": picture.seed,
        "version": picture.version,
    }
    return json.dumps(line).encode() + b"\n"


def problem_line(error: DeskteriorError) -> bytes:
    """The last line of a drawing that came to nothing."""
    problem = error.problem() | {"retry_after": error.retry_after}
    return json.dumps({"problem": problem}).encode() + b"\n"
