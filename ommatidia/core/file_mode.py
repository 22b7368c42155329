"""Files that others may read: the mode that the umask asks for, whoever wrote them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def usual_mode(path: Path) -> Iterator[None]:
    """Give the file that the block writes at ``path`` the mode of any new file there (0666 without the umask's bits).

    Some libraries write a temporary file that its owner alone may read, and rename it. Raises OSError.
    """
    path.touch()
    mode = path.stat().st_mode & 0o777
    yield
    path.chmod(mode)
