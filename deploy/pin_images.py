"""`make pin`: write the digest of each image's tag into compose.yaml and the Dockerfiles. It needs skopeo.

Run it after you change a tag, and now and then for rebuilt images, where the registry can be reached. Images that this
project builds have no digest: they are built, not pulled.
"""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
FILES = (FOLDER / "compose.yaml", *sorted((FOLDER / "images").glob("*.Dockerfile")))
IMAGE = re.compile(
    r"(?P<before>^ +image: |^ARG PYTHON=)(?P<tag>(?!nervemask)[\w./-]+:[\w.-]+)(?:@sha256:[0-9a-f]{64})?", re.M
)
DIGEST = re.compile("sha256:[0-9a-f]{64}")


def read_digest(tag: str) -> str:
    """Return the digest that the registry has for a tag. Raises SystemExit."""
    command = ["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{tag}"]
    try:
        completed = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit("pin: skopeo is not installed (Debian's package skopeo).")
    digest = completed.stdout.strip()
    if completed.returncode or not DIGEST.fullmatch(digest):
        sys.exit(f"pin: the digest of {tag} cannot be read ({completed.stderr.strip() or digest}): nothing is changed.")
    return digest


def main() -> None:
    texts = {file: file.read_text() for file in FILES}
    tags = sorted({match["tag"] for text in texts.values() for match in IMAGE.finditer(text)})
    digests = {tag: read_digest(tag) for tag in tags}
    for file, text in texts.items():
        file.write_text(IMAGE.sub(lambda match: f"{match['before']}{match['tag']}@{digests[match['tag']]}", text))
    for tag, digest in digests.items():
        print(f"{tag}@{digest}")


if __name__ == "__main__":
    main()
