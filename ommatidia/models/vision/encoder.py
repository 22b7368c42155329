"""The vision encoder contract: a trunk (usually pre-trained) and a neck, and every shape and cost before any weight.

Shapes: B batch, C colour channels, H rows, W columns, D feature channels.
"""

from __future__ import annotations

import contextlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor, nn

from ommatidia.core.config import Config, digest, once
from ommatidia.core.errors import ConfigError
from ommatidia.core.grid import Blocks, Cost, Grid
from ommatidia.models.between import BlockEdits
from ommatidia.models.library_errors import LibraryErrors
from ommatidia.models.vision.measurements import stored
from ommatidia.models.vision.neck import NeckConfig, NoNeck
from ommatidia.models.vision.preprocess import Fit, ImageSize, Interpolation, Preprocess, Triple
from ommatidia.models.vision.weights import (
    FileWeights,
    PackageWeights,
    RandomWeights,
    StateDict,
    WeightsConfig,
    seeded,
)


class EncoderConfig(Config, family=True):
    """A vision encoder. A bare name is an entry of the catalog, with ``@128`` or ``@96x128`` for another image size.

    A member says how an image becomes pixels (``preprocess``) and how its trunk is made (``trunk``); grid, cost and
    digest follow by running the trunk once on the meta device, where tensors have shapes but no memory.
    """

    neck: NeckConfig = NoNeck()
    weights: WeightsConfig = RandomWeights()

    @classmethod
    def named(cls, name: str) -> Any:
        from ommatidia.models.vision.catalog import lookup  # the catalog holds values of this family

        return lookup(name)

    @classmethod
    def tiny(cls) -> Self:
        """A small, offline member for tests and examples."""
        return cls()

    @abstractmethod
    def preprocess(self) -> Preprocess:
        """The transform this encoder wants; its ``size`` is the size of the pixels."""

    @abstractmethod
    def trunk(self, *, pretrained: bool) -> nn.Module:
        """A new trunk pixels_BCHW -> x_BHWD, drawn from the ambient generator, then loaded if ``pretrained``.

        Raises ConfigError when the weights are missing or do not fit.
        """

    def published(self, state: StateDict) -> StateDict:
        """Tensors under the names of a published checkpoint, renamed to the trunk's and without what it leaves out."""
        return state

    def differs(self, other: EncoderConfig) -> list[str]:
        """Fields in which ``other`` is not this encoder; where there are none, it sees at another size at most."""
        mine, theirs = self.to_dict(), other.to_dict()
        return [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name) and name not in _OF_A_PICTURE]

    def fitted(self, state: StateDict, made_for: EncoderConfig) -> StateDict:
        """The trunk's tensors as ``made_for`` holds them, this encoder at another size, made fit for this one.

        Most trunks resample their positions when they run, so that tensors never depend on the size.
        """
        return state

    @once
    def known(self) -> tuple[Grid, Cost]:
        """What the trunk gives and costs: as stored with the catalog where that has this very trunk, else measured now.

        Raises ConfigError as ``measure`` does.
        """
        found = stored(shape_digest(self))
        if found is not None:
            return found
        measured = shape_and_cost(self)
        return measured.grid, measured.cost

    def trunk_grid(self) -> Grid:
        """What the trunk gives. Raises ConfigError when the image size does not suit the trunk."""
        return self.known()[0]

    @once
    def grid(self) -> Grid:
        """What the encoder gives: the trunk's grid through the neck."""
        return self.neck.out(self.trunk_grid())

    def cost(self) -> Cost:
        """Parameters of trunk and neck, and operations of one view."""
        return self.trunk_cost() + self.neck.cost(self.trunk_grid())

    def trunk_cost(self) -> Cost:
        """Parameters of the trunk, and its operations for one view."""
        return self.known()[1]

    def blocks(self) -> Blocks:
        """The trunk's blocks, for a fusion that steers it in between. Raises ConfigError where there are none."""
        return _blocks_json(_trunk_json(self))

    def describe(self) -> str:
        """A few words for tables and cards."""
        rows, columns = self.preprocess().size
        return f"{type(self).model_fields['kind'].default} at {rows}x{columns} px, grid {self.grid()}"

    def trunk_digest(self) -> str:
        """Identity of the trunk's features: everything but the neck. The key under which features may be stored.

        Raises ConfigError when a local file of weights is missing.
        """
        fields = {name: value for name, value in self.to_dict().items() if name not in ("neck", "weights")}
        return digest(["trunk", fields, self.preprocess().hashed(), self.weights.identity()])

    def check(self) -> None:
        """Raises ConfigError where it is known, without reading a tensor, that the trunk cannot be built: a library or
        a package of weights is missing, a file is not there, or its header shows tensors that do not fit."""
        self.weights.check()
        with torch.device("meta"), seeded(self.weights.seed):
            self.trunk(pretrained=isinstance(self.weights, FileWeights | PackageWeights))

    def build(self, *, pretrained: bool = True) -> VisionEncoder:
        """The module. ``pretrained=False`` leaves the trunk untrained, for weights that will be loaded over it.

        The trunk depends on this config alone and never touches the ambient generator; the neck is drawn from it.
        Raises ConfigError when weights are missing or do not fit.
        """
        measured = shape_and_cost(self)
        with seeded(self.weights.seed):
            trunk = self.trunk(pretrained=pretrained)
        drop(trunk, measured.unused)
        return VisionEncoder(trunk, self.neck.build(measured.grid))


class ImageEncoderConfig(EncoderConfig):
    """Base of encoders that see one resized image."""

    image_size: ImageSize = (224, 224)
    """(rows, columns) in pixels; one number stands for a square."""
    fit: Fit = "pad"
    interpolation: Interpolation | None = None
    """None: what the pre-training used."""
    mean: Triple | None = None
    std: Triple | None = None

    def _prepared(self, *, mean: Triple, std: Triple, interpolation: Interpolation = "bicubic") -> Preprocess:
        """The transform, with this config's own values before the given ones."""
        return Preprocess(
            size=self.image_size,
            fit=self.fit,
            interpolation=self.interpolation or interpolation,
            mean=self.mean or mean,
            std=self.std or std,
        )


class VisionEncoder(nn.Module):
    """Pixels to a grid: ``forward = refine(features(pixels))``. Features of a frozen trunk may be stored in between.

    The trunk always stays in evaluation mode (running statistics fixed, no dropout), trained or not, so that a view's
    features never depend on its batch. Gradients pass all the same. Pixels take the type of the weights, unless the
    trunk says ``float32_pixels`` because it resamples them first.
    """

    low: bool
    """Whether the trunk holds 16-bit weights alone and is to compute in their type, autocast or not."""

    def __init__(self, trunk: nn.Module, neck: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk.eval()
        self.neck = neck
        self.low = False

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the neck; the trunk stays in evaluation mode."""
        super().train(mode)
        self.trunk.eval()
        return self

    def features(self, pixels_BCHW: Tensor, between: BlockEdits | None = None) -> Tensor:
        """The trunk's x_BHWD. ``between`` says by number of a block what x_BHWD becomes behind it."""
        weight = next(self.trunk.parameters(), None)
        if weight is not None and not getattr(self.trunk, "float32_pixels", False):
            pixels_BCHW = pixels_BCHW.to(weight.dtype)
        if between is not None:  # what it calls in between may hold float32
            return self.trunk(pixels_BCHW, between)
        with torch.autocast(pixels_BCHW.device.type, enabled=False) if self.low else contextlib.nullcontext():
            return self.trunk(pixels_BCHW)

    def refine(self, x_BHWD: Tensor) -> Tensor:
        """The neck's x_BHWD."""
        return self.neck(x_BHWD)

    def forward(self, pixels_BCHW: Tensor, between: BlockEdits | None = None) -> Tensor:
        """The encoder's x_BHWD: ``refine(features(pixels_BCHW))``. Pixels are preprocessed (mean and std removed)."""
        return self.refine(self.features(pixels_BCHW, between))


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pass on the meta device told: the trunk's grid and cost, and the parameters that have no part in it."""

    grid: Grid
    cost: Cost
    unused: frozenset[str]


def measure(make_trunk: Callable[[], nn.Module], size: tuple[int, int], *, what: str = "") -> Measured:
    """Run a trunk of one view on the meta device. Raises ConfigError, about ``what``, when it cannot take this size."""
    from torch.utils.flop_counter import FlopCounterMode  # brings triton along, which few processes need

    what = f"{what}image_size {size[0]}x{size[1]}"
    with seeded(0):
        # Only the making happens on meta by default: tables that a library keeps for later calls stay real ones.
        with torch.device("meta"), LibraryErrors(f"{what} cannot be built"):
            trunk = make_trunk().eval()
            pixels_BCHW = torch.empty(1, 3, *size)
        try:
            with torch.enable_grad():
                total = trunk(pixels_BCHW).sum()
            named = [(name, p) for name, p in trunk.named_parameters() if p.requires_grad]
            used = torch.autograd.grad(total, [p for _, p in named], allow_unused=True) if named else ()
            unused = frozenset(name for (name, _), gradient in zip(named, used, strict=True) if gradient is None)
            drop(trunk, unused)
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                shape = tuple(trunk(pixels_BCHW).shape)
        except (
            RuntimeError,
            AssertionError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
        ) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"{what} does not suit: {reason}") from None
    if len(shape) != 4 or min(shape) < 1:
        raise ConfigError(
            f"image_size {size[0]}x{size[1]}: the trunk gives the shape {shape}, not a grid; use a larger image"
        )
    parameters = sum(p.numel() for p in trunk.parameters())
    return Measured(Grid(*shape[1:]), Cost(parameters, float(counter.get_total_flops())), unused)


_OF_A_PICTURE = frozenset({"image_size", "input_size", "fit", "interpolation", "mean", "std"})
"""Fields that change what is seen and no weight."""
_NO_SHAPE = frozenset({"neck", "weights", "fit", "interpolation", "mean", "std"})
"""Fields that change neither the shapes nor the cost of a trunk."""


def _trunk_json(config: EncoderConfig) -> str:
    return json.dumps({n: value for n, value in config.to_dict().items() if n not in _NO_SHAPE})


def shape_digest(config: EncoderConfig) -> str:
    """What the measure of a trunk depends on, as a digest."""
    return digest(_trunk_json(config))


def shape_and_cost(config: EncoderConfig) -> Measured:
    """What the config's trunk measures, taken once a process. Raises ConfigError as ``measure`` does."""
    return _measured_json(_trunk_json(config))


def _called(data: Mapping[str, Any]) -> str:
    """What a trunk is called in messages."""
    return str(next(data[key] for key in ("model", "architecture", "kind") if data.get(key)))


@lru_cache(maxsize=512)
def _measured_json(text: str) -> Measured:
    data = json.loads(text)
    config = EncoderConfig.parse(data)
    what = f"{_called(data)}: " + (f"features {data['features']!r} at " if "features" in data else "")
    return measure(lambda: config.trunk(pretrained=False), config.preprocess().size, what=what)


@lru_cache(maxsize=64)
def _blocks_json(text: str) -> Blocks:
    """A trunk of blocks has a ``depth`` and takes ``between``; here every block says what grid passes it."""
    data = json.loads(text)
    config = EncoderConfig.parse(data)
    with seeded(0), torch.device("meta"):
        trunk = config.trunk(pretrained=False).eval()
    shapes: list[tuple[int, ...]] = []

    def note(x_BHWD: Tensor) -> Tensor:
        shapes.append(tuple(x_BHWD.shape))
        return x_BHWD

    depth = int(getattr(trunk, "depth", 0))
    with torch.no_grad(), contextlib.suppress(RuntimeError, ValueError):  # where tokens make no grid, shapes will miss
        if depth:
            pixels_BCHW = torch.empty(1, 3, *config.preprocess().size, device="meta")
            trunk(pixels_BCHW, dict.fromkeys(range(depth), note))
    if not depth or len(shapes) != depth or len(set(shapes)) != 1:
        raise ConfigError(f"{_called(data)}: its trunk is no row of equal blocks, so nothing can steer it in between")
    return Blocks(depth, Grid(*shapes[0][1:]))


class Skip(nn.Module):
    """Stands where a module had no part in the chosen features: passes its first input on and costs nothing."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        return x


def drop(trunk: nn.Module, unused: frozenset[str]) -> None:
    """Take parameters without a part in the features out of the trunk: whole modules where possible."""
    _drop(trunk, unused, "")


def _drop(module: nn.Module, unused: frozenset[str], path: str) -> None:
    for name, child in list(module.named_children()):
        names = [f"{path}{name}.{parameter}" for parameter, _ in child.named_parameters()]
        if names and unused.issuperset(names) and not isinstance(child, nn.ModuleList):
            setattr(module, name, Skip())
        elif names and not unused.isdisjoint(names):
            _drop(child, unused, f"{path}{name}.")
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter is not None and f"{path}{name}" in unused:
            module.register_parameter(name, None)
