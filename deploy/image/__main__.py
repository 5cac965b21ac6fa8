"""`python -m deploy.image bento|image`: builds the Bento, or the Bento and its image. `make build` and `make image`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from deploy.image.image import BASE, Engine, NoEngine, build_image
from deploy.image.variants import ROOT, Variant, build_bento, folder_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.image", description="Builds the Bento and its image.")
    parser.add_argument("what", choices=["bento", "image"])
    parser.add_argument("--variant", type=Variant, choices=list(Variant), default=Variant.CPU)
    parser.add_argument("--tag", help="of the image; deskterior:VERSION-VARIANT when left out")
    parser.add_argument("--base", default=BASE, help="an image with Python 3.11 and Debian's tools")
    parser.add_argument("--engine", choices=["docker", "podman"], help="Docker when it answers, else podman")
    parser.add_argument("--ca", type=Path, help="certificates that the package registry is known by")
    given = parser.parse_args()
    try:
        engine = Engine.at_hand(given.engine or "") if given.what == "image" else None
        bento = build_bento(given.variant)
        print(f"Bento {bento}")
        if engine:
            tag = given.tag or f"deskterior:{(ROOT / 'VERSION').read_text().strip()}-{given.variant.value}"
            sbom = build_image(engine, folder_of(bento), given.variant, tag, given.base, given.ca)
            size = int(engine.run("image", "inspect", tag, "--format", "{{.Size}}"))
            print(f"image {tag}, {size / 1e6:.0f} MB; its SBOM: {sbom.relative_to(ROOT)}")
    except NoEngine as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(error.cmd[:3])}… ended with code {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
