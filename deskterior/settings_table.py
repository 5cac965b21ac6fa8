"""The settings as a table, from the class that reads them: `python -m deskterior.settings_table > docs/settings.md`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from deskterior.config import ROOT, Settings

HEAD = """# Settings

From the environment, or from a `.env` file beside `service.py`. A wrong or missing one stops the start with a sentence
that names it. Relative paths start beside `service.py` too. Written by `make docs`.

| setting | default | |
|---|---|---|
"""


def table() -> str:
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    text = " ".join((field.description or "").split()).replace("|", "\\|")
    choices = [f"`{choice}`" for choice in get_args(field.annotation) if isinstance(choice, str)]
    if choices and get_origin(field.annotation) is not None:
        text = f"{', '.join(choices)}. {text}".strip()
    return f"| `{name.upper()}` | {_default(field.default)} | {text} |\n"


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, frozenset | tuple):
        value = ",".join(sorted(map(str, value)))
    text = str(value).replace(f"{ROOT}/", "") if isinstance(value, str | Path) else str(value)
    return f"`{text}`" if text and value is not None else ""


if __name__ == "__main__":
    print(table(), end="")
