"""Whether weights may be fetched: only where the person who runs a command has said so, never because a file asks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

DOWNLOAD = "OMMATIDIA_DOWNLOAD"
HOW = f"allow it with --download, or {DOWNLOAD}=1 in the environment"


def downloads_allowed() -> bool:
    """Whether ``OMMATIDIA_DOWNLOAD`` is 1. Without it only files that are already in the hub's cache are read."""
    return os.environ.get(DOWNLOAD) == "1"


@contextlib.contextmanager
def hub_as_allowed() -> Iterator[None]:
    """Keep the hub's library to its cache inside the block, unless downloads are allowed.

    Libraries above it (timm, transformers, diffusers, kernels) then find what is cached and fetch nothing.
    """
    if downloads_allowed():
        yield
        return
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def allow_downloads(*, allowed: bool) -> None:
    """Set the environment of this process and of those it starts: fetching allowed, or the hub's libraries offline.

    To be called by a program before it imports these libraries, which read their variable once.
    """
    if allowed:
        os.environ[DOWNLOAD] = "1"
    else:
        os.environ["HF_HUB_OFFLINE"] = "1"
