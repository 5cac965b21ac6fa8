"""Every number of a training run: a typed tree, its defaults in ``settings.toml``, each one open to a flag."""

import argparse
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from training.augment import Augmentation

DEFAULTS = Path(__file__).with_name("settings.toml")


class SettingsError(ValueError):
    """A setting is unknown, missing or of the wrong kind; the message names it."""


@dataclass(frozen=True)
class ViewSettings:
    desk: int
    not_desk: int
    decode_size: int
    probe: int


@dataclass(frozen=True)
class FitSettings:
    frozen_stages: int
    epochs: int
    photos_per_epoch: int
    batch: int
    learning_rate: float
    weight_decay: float
    label_smoothing: float
    dropout: float
    average: float
    towards_tuned: float
    probe_regularisation: float


@dataclass(frozen=True)
class Settings:
    seed: int
    backbone: str
    folds: int
    threads: int
    name: str
    version: str
    collections: list[str]
    kinds: dict[str, str]
    views: ViewSettings
    fit: FitSettings
    augmentation: Augmentation

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each setting, ``--fit.epochs`` for ``epochs`` of ``[fit]``, and ``--settings`` for another file."""
    parser.add_argument(
        "--settings", type=Path, default=DEFAULTS, metavar="FILE", help="TOML file (default: the one in training/)"
    )
    group = parser.add_argument_group("settings, in place of those in the file")
    for name, kind in leaves(Settings):
        if kind == dict[str, str]:
            continue  # a table; it stays in the file
        if kind == list[str]:
            group.add_argument(f"--{name}", nargs="*", metavar="TEXT")
        else:
            group.add_argument(f"--{name}", type=kind, metavar=kind.__name__.upper())


def resolve(arguments: argparse.Namespace) -> Settings:
    """The settings of the file with those of the flags over them. Raises ``SettingsError``."""
    given = {name: value for name, _ in leaves(Settings) if (value := getattr(arguments, name, None)) is not None}
    return load(arguments.settings, given)


def load(path: Path = DEFAULTS, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read a whole settings file; ``overrides`` maps dotted names to values. Raises ``SettingsError``."""
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read the settings in {path}: {error}") from error
    for name, value in (overrides or {}).items():
        *tables, leaf = name.split(".")
        table = tree
        for part in tables:
            table = table.setdefault(part, {})
        table[leaf] = value
    return from_dict(tree)


def from_dict(tree: Mapping[str, Any]) -> Settings:
    """The settings that ``Settings.as_dict`` wrote. Raises ``SettingsError``."""
    settings: Settings = _build(Settings, tree, "")
    return settings


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of each setting."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from leaves(hint, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


def _build(kind: type, tree: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(kind)
    unknown = set(tree) - set(hints)
    if unknown:
        raise SettingsError(f"unknown setting {prefix}{min(unknown)}; known are {', '.join(sorted(hints))}")
    values: dict[str, Any] = {}
    for field in fields(kind):
        name, hint = f"{prefix}{field.name}", hints[field.name]
        if field.name not in tree:
            raise SettingsError(f"setting {name} is missing")
        value = tree[field.name]
        if is_dataclass(hint):
            values[field.name] = _build(hint, value, f"{name}.")  # type: ignore[arg-type]
        else:
            values[field.name] = _checked(name, value, hint)
    return kind(**values)


def _checked(name: str, value: Any, hint: Any) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = get_origin(hint) or hint
    if not isinstance(value, plain) or isinstance(value, bool):
        raise SettingsError(f"setting {name} is {value!r}, which is no {plain.__name__}")
    return value
