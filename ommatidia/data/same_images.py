"""Which of the images that records name are one image: the same bytes, however they are named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ommatidia.core.errors import DataError
from ommatidia.core.files import digest_files
from ommatidia.core.image_file import path_of
from ommatidia.data.conversation import from_data_uri
from ommatidia.data.survey import file_path


class SameImages:
    """One name for every image. Equal where the digests are equal, so that it may be a key."""

    def __init__(self, root: Path, by_content: dict[bytes, str], renamed: dict[str, str]) -> None:
        self._root, self._by_content, self._renamed = root, by_content, renamed
        total = hashlib.sha256()
        for made, name in by_content.items():
            total.update(made + name.encode(errors="surrogatepass") + b"\0")
        self.digest = total.hexdigest()
        """SHA-256 of which names are one image."""

    @classmethod
    def find(cls, names: Iterable[str], root: Path) -> SameImages:
        """Of image files by the names that records give them, relative to ``root``; each is read once, if ever."""
        written = list(names)
        by_content: dict[bytes, str] = {}
        kept: list[tuple[str, bytes]] = []
        for name, found in zip(written, digest_files([file_path(name, root) for name in written]), strict=True):
            if found is not None:
                made, normal = bytes.fromhex(found.digest), normal_name(name, root)
                by_content[made] = min(normal, by_content.get(made, normal))
                kept.append((normal, made))
        renamed = {normal: by_content[made] for normal, made in kept if by_content[made] != normal}
        return cls(root, by_content, renamed)

    def name(self, image: str) -> str:
        """The one name of an image: the first in the alphabet of those that its file has."""
        normal = normal_name(image, self._root)
        if not image.startswith("data:"):
            return self._renamed.get(normal, normal)
        try:
            made = from_data_uri(image).digest
            return self._by_content.get(bytes.fromhex(made), made)
        except DataError:  # refused and counted where it is read
            return normal

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameImages) and (self._root, self.digest) == (other._root, other.digest)

    def __hash__(self) -> int:
        return hash((self._root, self.digest))


def normal_name(image: str, root: Path) -> str:
    """One spelling for one path, relative to ``root``; a data URI goes by its digest."""
    if image.startswith("data:"):
        return hashlib.sha256(image.encode(errors="surrogatepass")).hexdigest()
    path = os.path.normpath(path_of(image))
    if not os.path.isabs(path) and not path.startswith(".."):
        return path
    return os.path.relpath(os.path.join(root, path), root)
