"""The documents that are made from code are the ones that are committed."""

import re

from deskterior.config import ROOT
from deskterior.settings_table import table


def test_the_settings_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == table(), "run `make docs`"


def test_what_a_bento_carries_is_part_of_the_one_resolved_set() -> None:
    def pins(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9\[\]._-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))

    everything, serving = pins("requirements.txt"), pins("requirements-serve.txt")
    assert serving.items() <= everything.items(), "run `make lock`"
    assert "torch" not in serving


def test_no_registry_is_named_in_the_requirements() -> None:
    for name in ("requirements.txt", "requirements-serve.txt"):
        assert not re.search(
            r"^\s*--(index-url|extra-index-url|find-links)|://", (ROOT / name).read_text(), re.MULTILINE
        )
