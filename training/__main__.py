"""``python -m training COMMAND``: the desk classifier (``train``, ``evaluate``, ``export``) and the model that draws.

``train`` goes from photos to an exported classifier, ``evaluate`` writes the report of a finished run again, ``export``
its files. ``lora`` teaches the drawing model a concept, ``tiny`` makes a drawing model for tests. What a command needs
is imported when it is asked for.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training import lora, tiny

OUT = Path("models/desk_classifier")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status: 2 for input that the user can mend, said in one message."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m training", description="Train the desk classifier, or the model that draws."
    )
    commands = parser.add_subparsers(dest="do", required=True)
    tiny.add_command(commands.add_parser("tiny", help="make a tiny random drawing model, for tests and the demo"))
    lora.add_command(commands.add_parser("lora", help="teach a drawing model a concept: a LoRA from pictures"))
    for name, purpose in {
        "train": "desk classifier: cross-validate, fit on everything, report and export",
        "evaluate": "desk classifier: write the report of a finished run again",
        "export": "desk classifier: write the model files of a finished run again",
    }.items():
        _add_desk_command(commands.add_parser(name, help=purpose, description=purpose), name)
    options = parser.parse_args(given)
    if options.do == "tiny":
        return tiny.run(options)
    if options.do == "lora":
        return lora.run(options)
    from training import desk

    return desk.run(options, given)


def _add_desk_command(command: argparse.ArgumentParser, name: str) -> None:
    from training import settings

    command.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="holds train/desk, train/not_desk, and optionally val/ likewise and SOURCES.csv",
    )
    command.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"for the model files (default {OUT})")
    command.add_argument(
        "--run",
        type=Path,
        required=name != "train",
        metavar="FOLDER",
        help="of the run (default for train: runs/, by date and time)",
    )
    if name == "train":
        settings.add_flags(command)


if __name__ == "__main__":
    sys.exit(main())
