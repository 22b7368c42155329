"""Image store: the images of an output that had no file of their own, each once, beside the output."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from ommatidia.core.errors import ConfigError
from ommatidia.core.files import digest_files
from ommatidia.core.folders import claim_folder
from ommatidia.core.types import Picture
from ommatidia.data.encoded_image import encode_image

_SHOWN = 3


class ImageStore:
    """The folder ``OUT.images``: files named after their SHA-256, so that an image is never replaced by another."""

    def __init__(self, out: Path) -> None:
        self._out, self._folder = out, out.with_name(f"{out.name}.images")
        self._claimed = False
        self.missing: list[Path] = []
        """The first few files that the output names and that are not there."""
        self.missing_count = 0

    def see(self, path: Path) -> None:
        """Note an image that has a file of its own."""
        if not path.is_file():
            self.missing_count += 1
            self.missing += [path] if len(self.missing) < _SHOWN else []

    def put(self, picture: Picture) -> str:
        """Write an image unless it is there; the path relative to the output.

        Raises DataError, OSError, and ConfigError where the folder holds what we did not write.
        """
        ending, data = encode_image(picture)
        name = hashlib.sha256(data).hexdigest()
        path = self._folder / name[:2] / f"{name}.{ending}"
        if not self._claimed:
            claim_folder(self._folder, ours=("[0-9a-f][0-9a-f]",))
            self._claimed = True
        if path.exists():
            self._check([path])
        else:
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(data)
            os.replace(part, path)
        return f"{self._folder.name}/{name[:2]}/{path.name}"

    def check(self) -> None:
        """Raises ConfigError unless every image of the store that the output names is as it was written."""
        if not self._folder.is_dir():
            return
        named: set[str] = set()
        with self._out.open("rb") as file:
            for line in file:
                record = json.loads(line)
                images = record.get("images") or record.get("image") or []
                named.update(image for image in ([images] if isinstance(images, str) else images) if image)
        inside = f"{self._folder.name}/"
        self._check([self._out.parent / name for name in sorted(named) if name.startswith(inside)])

    def _check(self, paths: list[Path]) -> None:
        for path, found in zip(paths, digest_files([str(path) for path in paths]), strict=True):
            if found is None or found.digest != path.stem:
                what = "is missing" if found is None else "was changed since it was written"
                raise ConfigError(f"{path}: an image of {self._out.name} that {what}; put it back, or remove both")
