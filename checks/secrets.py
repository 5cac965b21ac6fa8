"""`python -m checks.secrets`: no tracked file holds a secret, the path of a machine, or a private registry's host.

Secrets are found by detect-secrets. What it takes for one and is none stands in `.secrets.baseline`, by file and hash:
`python -m checks.secrets --accept` writes it again, for the next review to look at.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import configure_settings_from_baseline

from deskterior.gateway.keys import KEY

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / ".secrets.baseline"
FINE = ROOT / ".cache" / "no-secrets"
"""Hashes of files without any."""
NOT_TEXT = (".onnx", ".safetensors", ".png", ".jpg", ".webp", ".heic", ".gif", ".ico", ".woff2", ".bin", ".lock")
MADE_OF_HASHES = re.compile(r"requirements.*\.txt|\.secrets\.baseline")
MOST_BYTES = 2_000_000
PUBLIC_HOSTS = {"pypi.org", "files.pythonhosted.org", "download.pytorch.org", ""}

# The home of a person, and where services keep a checkout. In pieces, so that this line is no finding.
MACHINE_PATHS = re.compile(
    r"(?<![\w.:/-])/(?:home|Users)/" + r"(?!(?:app|bentoml|user|runner|you)\b)[a-z][\w.-]*/", re.ASCII
)
PRIVATE_KEY = re.compile("-----BEGIN [A-Z ]*PRIVATE " + "KEY-----")
PLUGINS = {"HexHighEntropyString": {"limit": 3.0}, "Base64HighEntropyString": {"limit": 4.5}}
PLUGIN_NAMES = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "Base64HighEntropyString",
    "BasicAuthDetector",
    "CloudantDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "HexHighEntropyString",
    "IbmCloudIamDetector",
    "IbmCosHmacDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SoftlayerDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
FILTERS = (
    "allowlist.is_line_allowlisted",
    "heuristic.is_indirect_reference",
    "heuristic.is_likely_id_string",
    "heuristic.is_not_alphanumeric_string",
    "heuristic.is_potential_uuid",
    "heuristic.is_prefixed_with_dollar_sign",
    "heuristic.is_sequential_string",
    "heuristic.is_templated_secret",
)
SETTINGS = {
    "plugins_used": [{"name": name, **PLUGINS.get(name, {})} for name in PLUGIN_NAMES],
    "filters_used": [{"path": f"detect_secrets.filters.{name}"} for name in FILTERS],
}
GUESSED = {"Base64 High Entropy String", "Basic Auth Credentials", "Hex High Entropy String", "Secret Keyword"}
NOT_GUESSED_IN = re.compile(r"tests/.*|models/.*\.json|benchmarks/results/.*")
"""GUESSED are kinds that go by a name or by chance. Tests are full of made-up ones, models and results of digests; a
key of a known form belongs nowhere."""
Secret = tuple[str, str, str]
"""File, kind and hash. No line: it would change with every edit above it."""


def tracked() -> list[str]:
    """The files that git knows, and those that it would take."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, capture_output=True, check=True, text=True).stdout  # noqa: S603
    return sorted({name for name in found.split("\0") if name and (ROOT / name).is_file()})


def texts(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        path = ROOT / name
        if not name.endswith(NOT_TEXT) and not path.is_symlink() and path.stat().st_size <= MOST_BYTES:
            yield name


def secrets(names: Iterable[str]) -> dict[Secret, int]:
    """What looks like a secret, with its line. Files that were found fine before are not read through again."""
    fine = set(FINE.read_text().split()) if FINE.is_file() else set()
    digests = {name: _digest(name) for name in names if not MADE_OF_HASHES.fullmatch(name)}
    looked_at = [name for name, digest in digests.items() if digest not in fine]
    with ProcessPoolExecutor(initializer=configure_settings_from_baseline, initargs=(SETTINGS,)) as pool:
        found = dict(zip(looked_at, pool.map(_in_file, looked_at, chunksize=20), strict=True))
    FINE.parent.mkdir(exist_ok=True)
    FINE.write_text("\n".join(sorted(fine | {digest for name, digest in digests.items() if not found.get(name)})))
    return {one: line for each in found.values() for one, line in each.items()}


def _digest(name: str) -> str:
    return hashlib.sha256(f"{SETTINGS} {name}".encode() + (ROOT / name).read_bytes()).hexdigest()


def _in_file(name: str) -> dict[Secret, int]:
    found: dict[Secret, int] = {}
    for one in scan_file(str(ROOT / name)):
        if not (one.type in GUESSED and NOT_GUESSED_IN.fullmatch(name)):
            found.setdefault((name, one.type, one.secret_hash), one.line_number)
    return found


def accepted() -> set[Secret]:
    if not BASELINE.is_file():
        return set()
    kept = json.loads(BASELINE.read_text())["results"]
    return {(name, kind, secret) for name, kinds in kept.items() for kind, hashes in kinds.items() for secret in hashes}


def accept(found: Iterable[Secret]) -> None:
    results: dict[str, dict[str, list[str]]] = {}
    for name, kind, secret in sorted(found):
        results.setdefault(name, {}).setdefault(kind, []).append(secret)
    BASELINE.write_text(json.dumps({"results": results}, indent=1) + "\n")


def private_hosts() -> set[str]:
    """Hosts of the registries that this machine installs from, where they are not the public ones."""
    addresses = [value for name, value in os.environ.items() if re.fullmatch(r"(PIP|UV)_.*(INDEX|LINKS).*", name)]
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"):
        config = configparser.RawConfigParser()
        if path.is_file():
            config.read(path)
        addresses += [value for section in config.sections() for _, value in config.items(section)]
    hosts = {urlsplit(part).hostname or "" for address in addresses for part in address.split()}
    return hosts - PUBLIC_HOSTS


def machine_words() -> list[re.Pattern[str]]:
    """What only this machine, or one person's, is called."""
    words = [re.compile(rf"(?<![\w.-]){re.escape(host)}(?![\w-])") for host in private_hosts()]
    if len(ROOT.parts) > 2:  # "/app" is a word of other meanings
        words.append(re.compile(re.escape(str(ROOT)) + r"(?![\w-])"))
    return [*words, MACHINE_PATHS, PRIVATE_KEY, KEY]


def marks(names: Iterable[str]) -> Iterator[str]:
    words = machine_words()
    for name in names:
        for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1):
            if any(word.search(line) for word in words):
                yield f"{name}:{number}: a path or registry of one machine, a private key, or an API key of ours"
            if re.match(r"requirements.*\.txt", name) and re.search(r"https?://|--(extra-)?index|--find-links", line):
                yield f"{name}:{number}: an address in a list of requirements"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks.secrets", description=__doc__)
    parser.add_argument("files", nargs="*", help="all that git knows, when none is named")
    parser.add_argument("--accept", action="store_true", help="write .secrets.baseline again")
    asked = parser.parse_args()
    if not (ROOT / ".git").exists():
        print("checks.secrets: NOT CHECKED: this is no git checkout, so nothing says which files are the project's")
        return 0
    names = list(texts(asked.files if asked.files and not asked.accept else tracked()))
    found = secrets(names)
    if asked.accept:
        accept(found)
        return 0
    wrong = [
        f"{name}:{line}: looks like a secret ({kind})"
        for (name, kind, secret), line in found.items()
        if (name, kind, secret) not in accepted()
    ]
    wrong += marks(names)
    for line in wrong:
        print(line)
    if wrong:
        print("checks.secrets: take these out; what is none is accepted by `python -m checks.secrets --accept`")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
