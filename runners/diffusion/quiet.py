"""Makes diffusers and its friends fit for a server: no network, no telemetry, no progress bars, no chatter.

Called before each use, from the thread that uses them: the first call imports them, which takes 5 to 20 seconds.
"""

from __future__ import annotations

import importlib
import os
import warnings

from runners.diffusion.versions import VersionUnusable

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_CHATTY = r"(torch|diffusers|transformers|accelerate|peft|huggingface_hub|runners\.diffusion)(\..*)?$"


def prepare() -> None:
    """Import what draws, offline and quiet.

    Raises:
        VersionUnusable: it is not installed, or cannot be imported.
    """
    os.environ.update(_OFFLINE)  # read at import
    # Deprecations of theirs are ours to see when their versions change, not the server's while it runs.
    warnings.filterwarnings("ignore", module=_CHATTY)
    try:
        for name in ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors"):
            importlib.import_module(name)
    except ImportError as error:
        raise VersionUnusable(
            f"{error.name or 'torch'} cannot be imported where the model runs: pip install -r requirements-gpu.txt",
            internal=repr(error),
        ) from None
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
