"""Lists what an image holds, as a CycloneDX document: Python packages, Debian's packages, Python itself and the model.

Runs while the image is built, beside what it lists, so that the list is of what was installed and not of what was asked
for. The same contents give the same document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

LONGEST_LICENCE = 200
"""Characters; some packages put the whole text where its name belongs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--site", type=Path, required=True, help="the service's site-packages")
    parser.add_argument("--base", type=Path, required=True, help="the Python of the base image")
    parser.add_argument("--source", type=Path, required=True, help="the Bento's src")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()

    found = {str(component.bom_ref): component for component in _components(given.site, given.base, given.source)}
    version = (given.source / "VERSION").read_text().strip()
    root = Component(name="deskterior", version=version, type=ComponentType.APPLICATION, bom_ref="deskterior")
    bom = Bom(components=found.values(), serial_number=uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(sorted(found))))
    bom.metadata.component = root
    bom.metadata.timestamp = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH") or 0), UTC)
    bom.register_dependency(root, found.values())
    given.out.write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n")


def _components(site: Path, base: Path, source: Path) -> Iterator[Component]:
    ask = "import json, sys; print(json.dumps([sys.version.split()[0], sys.path]))"
    python, places = json.loads(_said(str(base), "-I", "-c", ask))
    yield _component("python", python, PackageURL("generic", name="python", version=python), ComponentType.PLATFORM)
    for distribution in distributions(path=[str(site), *places]):
        name, version = distribution.metadata["Name"], distribution.version
        component = _component(name, version, PackageURL("pypi", name=name.lower(), version=version))
        if licence := _licence(distribution):
            component.licenses = [LicenseFactory().make_from_string(licence)]
        yield component
    for line in _said(
        "dpkg-query", "-W", "-f", "${Package}\t${Version}\t${Architecture}\t${db:Status-Status}\n"
    ).splitlines():
        name, version, architecture, status = line.split("\t")
        if status != "installed":
            continue
        purl = PackageURL("deb", "debian", name, version, qualifiers={"arch": architecture})
        yield _component(name, version, purl)
    model = json.loads((source / "models/desk_classifier/model.json").read_text())
    yield _model(model)


def _model(model: dict[str, object]) -> Component:
    name, version = str(model["name"]), str(model["version"])
    component = _component(
        name, version, PackageURL("generic", name=name, version=version), ComponentType.MACHINE_LEARNING_MODEL
    )
    if digest := str(model.get("digest", "")).removeprefix("sha256:"):
        component.hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    return component


def _component(name: str, version: str, purl: PackageURL, kind: ComponentType = ComponentType.LIBRARY) -> Component:
    return Component(name=name, version=version, purl=purl, type=kind, bom_ref=purl.to_string())


def _licence(distribution: Distribution) -> str:
    about = distribution.metadata
    said = next((about[field] for field in ("License-Expression", "License") if field in about), "")
    return said if "\n" not in said and len(said) <= LONGEST_LICENCE else ""


def _said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - as called above


if __name__ == "__main__":
    main()
