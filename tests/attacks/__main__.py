"""`python -m tests.attacks`: write the attack list into SECURITY.md, between its markers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.attacks import ALL
from tests.attacks.addresses import Address

FILE = Path(__file__).parents[2] / "SECURITY.md"
BEGIN, END = "<!-- attacks: begin, written by `make docs` -->", "<!-- attacks: end -->"


def lines() -> Iterator[str]:
    for title, attacks in ALL.items():
        yield f"### {title}\n"
        yield "| attack | what is tried | answer |"
        yield "|---|---|---|"
        for attack in attacks:
            spelled = f" ({len(attack.urls)} spellings)" if isinstance(attack, Address) else ""
            answer = "200" if attack.answer == "200" else "{} `{}`".format(*attack.answer.split(" ", 1))
            yield f"| {attack.name} | {attack.tries.replace('|', chr(92) + '|')}{spelled} | {answer} |"
        yield ""


def written(text: str) -> str:
    """`text` with the list as it is now between the markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{chr(10).join(lines())}\n{END}{after}"


if __name__ == "__main__":
    FILE.write_text(written(FILE.read_text("utf-8")), "utf-8")
