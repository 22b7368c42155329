"""Files inside installed packages: named without importing anything, and never outside the package."""

from __future__ import annotations

from pathlib import PurePosixPath

from ommatidia.core.errors import ConfigError


def top_level(name: str) -> str:
    """The name of a top-level package.

    Raises ConfigError for another: finding ``a.b`` would import, and so run, ``a``.
    """
    if not name.isidentifier():
        raise ConfigError(f"{name!r} is no top-level package; expected a plain import name without dots")
    return name


def below(file: str) -> str:
    """A path inside a package. Raises ConfigError when it leads out of it."""
    path = PurePosixPath(file.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in file or not path.parts:
        raise ConfigError(f"{file!r} leads out of the package; expected a path below it")
    return file
