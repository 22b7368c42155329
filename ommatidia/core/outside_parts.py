"""Parts from outside the package: a user's own encoder, fusion, benchmark or strategy, declared in a file of theirs.

Declaring a part's class registers its kind, so importing the file is all it takes. Code is imported only where a user
names it (``import_parts``, ``--import``) or has installed it (the entry-point group ``ommatidia.parts``). What a recipe
file, a record or a saved model says it needs is never imported by itself: see ``require_parts``.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from ommatidia.core.errors import ConfigError, OmmatidiaError

GROUP = "ommatidia.parts"
_PACKAGE = "ommatidia"
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")

_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


def import_parts(*names: str) -> list[ModuleType]:
    """Import modules that declare parts: ``my_parts.py``, a path to such a file, or the name of a module.

    A module is looked for where Python looks, and in the current folder. Raises ConfigError.
    """
    return [import_module(name) for name in names]


def import_module(name: str) -> ModuleType:
    """One module, by its name or by the path of its file. Raises ConfigError."""
    path = Path(name)
    module = path.stem if path.suffix == ".py" else name
    if not _MODULE.fullmatch(module):
        raise ConfigError(f"{name}: expected a module such as my_parts, or a file such as my_parts.py")
    if path.suffix == ".py":
        _find_file(path, module)
    elif str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            file = f"{module.replace('.', '/')}.py"
            raise ConfigError(f"{name}: no module of this name is installed, and no {file} is here") from None
        raise ConfigError(f"{name}: it imports {error.name!r}, which is not installed") from error
    except OmmatidiaError as error:
        raise ConfigError(f"{name}: {error}") from error
    except Exception as error:
        raise ConfigError(f"{name}: cannot be imported: {type(error).__name__}: {error}") from error


def _find_file(path: Path, module: str) -> None:
    """See that importing ``module`` will import this file and no other."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; expected a Python file that declares parts")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    loaded = sys.modules.get(module)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module)
    origin = spec.origin if spec is not None else None
    if origin is None or Path(origin).resolve() != path.resolve():
        raise ConfigError(f"{path}: another module is called {module!r} ({origin or 'built in'}); rename the file")


@contextlib.contextmanager
def allow_imports(*, allowed: bool = True) -> Iterator[None]:
    """Inside, the modules that recipe files, records and saved models name are imported when they are needed."""
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def require_parts(names: object, asked_by: str = "") -> None:
    """See that the modules which a file says it needs have been imported; import them only where that is allowed.

    Raises ConfigError that says what is needed and how to allow it.
    """
    place = f"{asked_by}: " if asked_by else ""
    if not isinstance(names, list | tuple):
        raise ConfigError(f"{place}imports: expected a list of modules")
    for name in names:
        if not isinstance(name, str) or not _MODULE.fullmatch(_stem(name)):
            raise ConfigError(f"{place}imports: expected the name of a module, got {str(name)[:60]!r}")
    lacking = [name for name in names if _stem(name) not in sys.modules]
    if lacking:
        load_installed_parts()
        lacking = [name for name in lacking if _stem(name) not in sys.modules]
    if lacking and _allowed.get():
        import_parts(*lacking)
    elif lacking:
        options = " ".join(f"--import {name if name.endswith('.py') else f'{name}.py'}" for name in lacking)
        raise ConfigError(
            f"{place}it needs parts of {', '.join(map(repr, lacking))}, which is code that has not been imported. If "
            f"you trust it, add {options} to the command (or the path where it lies), or --allow-imports to import "
            "whatever a file names; in Python, call ommatidia.import_parts first"
        )


def _stem(name: str) -> str:
    return Path(name).stem if name.endswith(".py") else name


@lru_cache(maxsize=1)
def load_installed_parts() -> None:
    """Import what installed packages declare in the entry-point group ``ommatidia.parts``. Raises ConfigError."""
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:
            raise ConfigError(
                f"the installed package {entry.dist.name if entry.dist else entry.value!r} has parts that cannot be "
                f"imported: {type(error).__name__}: {error}"
            ) from error


def is_outside(module: str) -> bool:
    """Whether a module is not of this package."""
    return module.partition(".")[0] != _PACKAGE


def outside_modules(value: Any) -> tuple[str, ...]:
    """The modules outside the package that declare the parts of a value, each once."""
    return tuple(dict.fromkeys(_modules(value)))


def import_options(value: Any) -> list[str]:
    """What a command line needs to import the parts of a value again: ``--import`` and a file, for each module."""
    options = list[str]()
    for module in outside_modules(value):
        file = getattr(sys.modules.get(module), "__file__", None)
        near = Path(file).parent == Path.cwd() if file else False
        options += ["--import", Path(file).name if file and near else file or module]
    return options


def _modules(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        if is_outside(type(value).__module__):
            yield _importable(type(value).__module__)
        for name in type(value).model_fields:
            yield from _modules(getattr(value, name))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _modules(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _modules(one)


def _importable(module: str) -> str:
    """By which name others import it: a script's file where it is the program that runs."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).stem if module == "__main__" and file else module


@lru_cache(maxsize=256)
def code_digest(module: str) -> str | None:
    """SHA-256 of the file that declares an outside part, None for our own parts and for code without a file.

    The package's parts have versions that are raised by hand; a user's own part is known by its code.
    """
    if not is_outside(module) or module not in sys.modules:
        return None
    with contextlib.suppress(OSError, TypeError):
        file = inspect.getsourcefile(sys.modules[module])
        return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    return None
