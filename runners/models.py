"""The versions of our own drawing model, from the command line: `python -m runners.models list|check|activate|remove`.

Works on `CUSTOM_MODEL_DIR`, beside a runner or without one: a running one notices within two seconds.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from deskterior import telemetry
from deskterior.config import SettingsError, settings
from runners.diffusion import checkpoint, recipe
from runners.diffusion.engine import DrawingModel
from runners.diffusion.layout import Options
from runners.diffusion.versions import Digests, ModelFolder, NoRoom, Version, VersionUnusable


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, 1 for a version that cannot be used, 2 for what was asked wrongly."""
    parser = argparse.ArgumentParser(prog="python -m runners.models", description="Versions of our own drawing model.")
    parser.add_argument("--folder", type=Path, help="instead of CUSTOM_MODEL_DIR")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what is installed, and which one draws")
    check = commands.add_parser("check", help="load a version and draw with it; all of them without a name")
    check.add_argument("version", nargs="?")
    activate = commands.add_parser("activate", help="check a version, and let it draw from now on")
    activate.add_argument("version")
    activate.add_argument(
        "--unchecked", action="store_true", help="a running runner refuses a broken version by itself"
    )
    commands.add_parser("remove", help="delete a version that is not active").add_argument("version")
    given = parser.parse_args(arguments)
    try:
        options = Options(1, settings().drawing_memory, settings().drawing_precision)
        folder = ModelFolder(given.folder or settings().custom_model_dir)
        match given.command:
            case "list":
                return _list(folder)
            case "check":
                versions = [folder.version(given.version)] if given.version else folder.versions()
                if not versions:
                    print(f"error: there is no version in {folder.path}", file=sys.stderr)
                return max((_check(version, options) for version in versions), default=2)
            case "activate":
                version = folder.version(given.version)
                if not given.unchecked and (status := _check(version, options)):
                    return status
                folder.activate(version.name)
                print(f"{version.name} is active")
            case "remove":
                folder.remove(given.version)
                print(f"{given.version} is deleted")
    except (VersionUnusable, SettingsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or folder.path}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _list(folder: ModelFolder) -> int:
    status, active, digests = 0, None, Digests()
    versions = folder.versions()
    try:
        active = folder.active()
    except VersionUnusable as error:
        print(f"error: {error}", file=sys.stderr)
        status = 1
    if not versions:
        print(f"There is no version in {folder.path}. A version is a folder with model_index.json and safetensors.")
    if stray := folder.stray():
        print(f"{stray}.")
    for version in versions:
        mark = "*" if version == active else " "
        try:
            found = checkpoint.vet(version.path)
            recipes = recipe.read(version.path, found, version.name)
            loras = [concept.value for concept, how in recipes.by_concept.items() if how.lora]
            told = f"{found.class_name}, {sum(found.weights.values()) / 1e9:.2f} billion weights, {recipes.side} px"
            told += f", LoRA: {' '.join(loras)}" if loras else ""
        except VersionUnusable as error:
            told = f"cannot be used: {error}"
        print(f"{mark} {version.name}  {digests.of(version)[:19]}  {told}")
    return status


def _check(version: Version, options: Options) -> int:
    print(f"{version.name}: loading ...", flush=True)
    try:
        try:
            model = DrawingModel.load(version, options)
        except NoRoom:
            # On a machine whose GPU is taken, by the very runner that this is for perhaps.
            model = DrawingModel.load(version, replace(options, device="cpu"))
    except VersionUnusable as error:
        print(f"{version.name}: cannot be used: {error}", file=sys.stderr)
        return 1
    print(f"{version.name}: draws. {model.family} on {model.device}")
    model.close()
    return 0


if __name__ == "__main__":
    telemetry.configure_logging("error", "console")  # what the user has to know is printed
    sys.exit(main())
