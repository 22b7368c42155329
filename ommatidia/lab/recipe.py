"""Recipe: one design and how it is trained and judged, as one value whose digest is its address."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal, get_type_hints

from pydantic import AfterValidator, Field, create_model, model_validator

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.names import Name, fit_name
from ommatidia.core.outside_parts import import_module, is_outside, outside_modules, require_parts
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.models.config import MLLMConfig
from ommatidia.models.injection import Inline
from ommatidia.models.vision.encoder import EncoderConfig
from ommatidia.models.vision.tiling import Whole
from ommatidia.train.stage import Stage

Mode = Literal["full", "blind"]


def _checked_device(device: str) -> str:
    if re.fullmatch(r"cpu|cuda(:[0-9]{1,3})?", device) is None:
        raise ConfigError(f"expected cpu, cuda or cuda:NUMBER, got {device[:40]!r}")
    return device


class RootConfig(Config):
    """A value that has a file of its own, which names the modules outside the package that declare its parts."""

    imports: tuple[str, ...] = ()
    """Modules to import first. What is used without being named is added when the value is written."""

    unhashed: ClassVar[frozenset[str]] = frozenset({"imports"})

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``parse`` turns back into an equal value, with the modules that declare its parts."""
        named = {Path(name).stem if name.endswith(".py") else name for name in self.imports}
        used = (module for module in outside_modules(self) if module not in named)
        return {**super().to_dict(), "imports": [*self.imports, *used]}

    @model_validator(mode="before")
    @classmethod
    def _require_parts(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("imports"):
            require_parts(value["imports"], str(value.get("name", "")))
        return value


class Recipe(RootConfig):
    """Model, stages, benchmarks and seed. Everything that can change a result is in here; ``name`` cannot."""

    name: Name = "design"
    model: MLLMConfig
    stages: tuple[Stage, ...]
    benchmarks: tuple[BenchmarkConfig, ...] = ()
    seed: int = Field(0, ge=0)
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)] = ("full", "blind")
    """Every benchmark is answered in each mode; ``blind`` asks the same model without its images."""
    features: Literal["auto", "never"] = "auto"
    """Whether outputs of frozen trunks may be stored and reused; ``auto`` lets the planner decide by arithmetic."""
    feature_precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of a frozen trunk when its features are stored (they are kept in 16 bits either way)."""
    eval_batch: int = Field(64, ge=1)
    device: Annotated[str, AfterValidator(_checked_device)] = "cpu"
    threads: int = Field(2, ge=1, le=4096)
    """CPU threads of one node's arithmetic. With another number sums come in another order, so on a CPU it is part of
    the keys; on a GPU it changes nothing."""

    unhashed: ClassVar[frozenset[str]] = frozenset({"name", "eval_batch", "device", "modes", "imports"})

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ConfigError(f"stages: names must differ, got {', '.join(names)}")
        titles = [benchmark.name for benchmark in self.benchmarks]
        if len(set(titles)) != len(titles):
            raise ConfigError(f"benchmarks: names must differ, got {', '.join(titles)}")
        for stage in self.stages:
            stage.model_for_stage(self.model)
        order = [("language", "expert", "mixture").index(stage.scope) for stage in self.stages]
        if order != sorted(order):
            raise ConfigError("stages: first those of scope 'language', then 'expert', then 'mixture'")
        return self

    def hashed(self) -> Any:
        """Without the threads where they cannot change a result."""
        data = super().hashed()
        return data if self.device == "cpu" else {name: data[name] for name in data if name != "threads"}

    def design(self) -> str:
        """Address of the design: the digest without the seed. Trials of one design differ only in their seed."""
        return self.model_copy(update={"seed": 0}).digest()

    def stage(self, name: str | None) -> Stage:
        """The stage of this name; the last one without. Raises ConfigError."""
        stages = {stage.name: stage for stage in self.stages}
        if not stages:
            raise ConfigError(f"recipe {self.name!r} has no stages")
        if name is not None and name not in stages:
            raise ConfigError(unknown("stage", name, stages))
        return self.stages[-1] if name is None else stages[name]

    def seeded(self, seed: int) -> Recipe:
        """The same design with another seed: another trial of it."""
        return self.model_copy(update={"seed": seed})

    def label(self) -> str:
        """Encoders and fusion in a few words, and tiling and injection where they are not the plain ones."""
        if not self.model.encoders:
            return "blind"
        words = [" + ".join(self.model.encoders)]
        if len(self.model.encoders) > 1:
            words.append(self.model.fusion.kind_name())
        if not isinstance(self.model.tiling, Whole):
            tags = getattr(self.model.tiling, "tags", "none")
            words.append(self.model.tiling.kind_name() + ("" if tags == "none" else f" {tags}"))
        if not isinstance(self.model.injection, Inline):
            words.append(self.model.injection.kind_name())
        return " · ".join(words)


def with_encoders(recipe: Recipe, encoders: Mapping[str, EncoderConfig]) -> Recipe:
    """The same recipe seeing through other encoders. One encoder needs no fusion; none at all gives the blind design.

    Raises ConfigError when the encoders do not fit.
    """
    data = recipe.to_dict()
    data["model"]["encoders"] = {name: encoder.to_dict() for name, encoder in encoders.items()}
    data["model"]["tiling"] = recipe.model.tiling.only(tuple(encoders)).to_dict()
    for stage, own in zip(data["stages"], recipe.stages, strict=True):
        stage["tiling"] = None if own.tiling is None or not encoders else own.tiling.only(tuple(encoders)).to_dict()
        stage["encoders"] = {name: one for name, one in (stage["encoders"] or {}).items() if name in encoders} or None
    if len(encoders) == 1:
        data["model"]["fusion"] = recipe.model.fusion.single(next(iter(encoders))).to_dict()
    parts = [*(f"encoders.{name}" for name in encoders), *(("fusion", "projector", "injection") if encoders else ())]
    adapters = data["model"]["adapters"]
    data["model"]["adapters"] = {
        glob: adapter for glob, adapter in adapters.items() if any(fnmatchcase(p, glob) for p in (*parts, "language"))
    }
    if not encoders:
        data["stages"] = [s for s in map(_language_only, data["stages"]) if s is not None]
    new = Recipe.parse(data)
    return new.model_copy(update={"name": fit_name(new.label())})


def _language_only(stage: dict[str, Any]) -> dict[str, Any] | None:
    """What is left of a stage when there is nothing to see with: the language model's part of it."""
    train = {pattern: rate for pattern, rate in stage["train"].items() if pattern.partition(":")[0] == "language"}
    return {**stage, "train": train} if train and stage["scope"] != "expert" else None


def recipe_modules() -> list[str]:
    """The recipe modules that ship with the package, found without importing them."""
    spec = importlib.util.find_spec("ommatidia.recipes")
    places = list(spec.submodule_search_locations or []) if spec else []
    return [f"ommatidia.recipes.{module.name}" for module in pkgutil.iter_modules(places)]


def recipes_of(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The recipes of a module by name: its ``RECIPES`` (a name may then be no Python name, such as 8b), or else its
    public functions."""
    if (named := getattr(module, "RECIPES", None)) is not None:
        return dict(named)
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and name[0] != "_"
    }


def find(reference: str) -> Callable[..., Any]:
    """The function behind ``module:name`` or ``file.py:name``, or behind ``module`` where that has a single recipe.

    Raises ConfigError with the nearest valid name.
    """
    module_name, _, name = reference.partition(":")
    steps = module_name.split(".")
    file = module_name.endswith(".py")
    if not name and not file and (len(steps) == 1 or not all(step.isidentifier() for step in steps)):
        raise ConfigError(
            f"{reference!r}: expected a YAML file, module:function or file.py:function, e.g. "
            "ommatidia.recipes.quickstart:search"
        )
    if is_outside(module_name):
        module = import_module(module_name)
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not module_name.startswith(error.name):
                raise
            raise ConfigError(unknown("recipe module", module_name, recipe_modules())) from None
    recipes = recipes_of(module)
    if not name and len(recipes) == 1:
        return next(iter(recipes.values()))
    if not name:
        raise ConfigError(f"{reference}: it has {', '.join(recipes) or 'no recipe'}; say which, as {module_name}:NAME")
    if name not in recipes:
        raise ConfigError(unknown(f"recipe in {module_name}", name, recipes))
    return recipes[name]


def _typed(reference: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as the function's annotations want them. Raises ConfigError for one that does not fit."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {f"given_{name}": (hints.get(name, Any), ...) for name in arguments}
    taken = create_model("Arguments", __base__=Config, **fields)
    try:
        value = taken.parse({f"given_{name}": argument for name, argument in arguments.items()})
    except ConfigError as error:
        raise ConfigError(f"{reference}: {str(error).replace('given_', '')}") from None
    return {name: getattr(value, f"given_{name}") for name in arguments}


def read(reference: str, cls: type[Config], arguments: Mapping[str, Any] | None = None) -> Any:
    """A value of ``cls`` from a YAML/JSON file, or from a recipe function called with ``arguments``."""
    if Path(reference).suffix in (".yaml", ".yml", ".json"):
        if arguments:
            raise ConfigError(f"{reference}: a file takes no arguments ({', '.join(arguments)}); use --set")
        return cls.read(reference)
    function = find(reference)
    valid = inspect.signature(function).parameters
    for argument in arguments or {}:
        if argument not in valid:
            raise ConfigError(f"{reference}: {unknown('argument', argument, valid)}")
    needed = [n for n, p in valid.items() if p.default is p.empty and n not in (arguments or {})]
    if needed:
        raise ConfigError(f"{reference}: needs {', '.join(f'{n}=...' for n in needed)}")
    value = function(**_typed(reference, function, arguments or {}))
    if not isinstance(value, cls):
        raise ConfigError(f"{reference} gives a {type(value).__name__}; expected a {cls.__name__}")
    return value
