"""What trains and what is frozen: patterns against parts, applied, as a table, and as the state a stage leaves behind.

A trained tensor is known as "<part>:<name inside the part>", for example "encoders.clip:neck.fc1.weight".
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, RunError, nearest, unknown
from ommatidia.models.adapters import base, is_adapter
from ommatidia.models.vision.encoder import VisionEncoder
from ommatidia.train.frozen import Frozen
from ommatidia.train.pattern import Pattern
from ommatidia.train.pieces import whole


@dataclass(frozen=True, slots=True)
class Trained:
    """Which parameters train, at which peak learning rate, and which buffers training may change."""

    rates: Mapping[str, float]
    """"<part>:<parameter>" -> peak learning rate, in the order of the parts."""
    buffers: tuple[str, ...]
    """"<part>:<buffer>": persistent buffers of modules in train mode, such as the statistics of a batch norm that is
    no part of a trunk."""

    def parameters(self, parts: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
        """The trained parameters of ``parts`` by name."""
        found = dict(_parameters(parts))
        return {name: found[name] for name in self.rates}

    def tensors(self, parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Trained parameters and changing buffers by name: the live tensors, not copies."""
        buffers = {name: tensor for name, tensor in _tensors(parts) if not isinstance(tensor, nn.Parameter)}
        return {**self.parameters(parts), **{name: buffers[name] for name in self.buffers}}


def select(parts: Mapping[str, nn.Module], train: Mapping[str, float]) -> Trained:
    """Which parameters of ``parts`` train under the patterns ``train``. Changes nothing; meta devices are fine.

    Where several patterns match a parameter, the most specific wins (``Pattern.specificity``). A parameter shared by
    several names (tied embeddings) counts once, under its first name, and trains when any of its names matches.

    What an adapted part had before its adapters trains only under a pattern that names parameters: ``language`` then
    means the adapters (and, of an encoder, its neck), ``language:*`` everything.

    A part that is there but has no parameters (a fusion of one encoder, an inline injection) may be named in vain.
    What is ``Frozen`` by the stage's meaning is reached by no glob.

    Raises ConfigError when a pattern matches nothing or names what is ``Frozen``, when nothing would train at all, or
    when two equally specific patterns give one parameter different rates.
    """
    parts = _reachable(parts, train)
    aliases: dict[int, list[tuple[str, str]]] = {}
    for part, module in parts.items():
        for name, parameter in module.named_parameters(remove_duplicate=False):
            aliases.setdefault(id(parameter), []).append((part, name))
    patterns = {Pattern.parse(text): rate for text, rate in train.items()}
    for pattern in patterns:
        _check_matches(pattern, parts)
    held = frozenset().union(*map(base, parts.values()))
    rates: dict[str, float] = {}
    for place, names in aliases.items():
        matching = [
            p
            for p in patterns
            if (p.parameter is not None or place not in held)
            and any(p.matches_part(part) and p.matches_parameter(name) for part, name in names)
        ]
        if not matching:
            continue
        first = ":".join(names[0])
        best = max(pattern.specificity for pattern in matching)
        winners = {pattern.text: patterns[pattern] for pattern in matching if pattern.specificity == best}
        if len(set(winners.values())) > 1:
            raise ConfigError(f"{first} matches {' and '.join(map(repr, winners))} equally well, at different rates")
        rates[first] = next(iter(winners.values()))
    if not rates:
        raise ConfigError(f"nothing would train: {', '.join(map(repr, train))} match only parts without parameters")
    active = _active(parts, rates)
    buffers = [name for name, tensor, owner in _persistent_buffers(parts) if id(owner) in active]
    return Trained(rates, tuple(buffers))


def freeze(parts: Mapping[str, nn.Module], trained: Trained) -> None:
    """Make ``parts`` train exactly ``trained``: ``requires_grad`` for those parameters, and the modes to match.

    A module below which nothing trains is in eval mode: no dropout, no new batch-norm statistics, so that frozen means
    bit-identical. Modules without parameters (dropout, stochastic depth) follow the module that holds them. A trunk is
    in eval mode even where it trains: its batch norms normalise by the statistics that it came with, while their
    scales and shifts may learn, so that what it makes of a view does not depend on the others of its batch. Adapters
    in a trunk train as they do elsewhere, dropout included.
    """
    chosen = trained.parameters(parts)
    for name, parameter in _parameters(parts):
        if name in chosen and not parameter.is_floating_point():
            raise ConfigError(f"{name} cannot train: it holds {parameter.dtype}")
        parameter.requires_grad_(name in chosen)
    active = _active(parts, trained.rates)
    for module in parts.values():
        for child in module.modules():
            child.training = id(child) in active


def table(parts: Mapping[str, nn.Module], trained: Trained) -> list[tuple[str, str, str, str, str]]:
    """Rows of part, parameters, trained parameters, peak learning rate, state."""
    rows = []
    for part in parts:
        sizes = {name: p.numel() for name, p in _parameters(parts) if name.partition(":")[0] == part}
        rates = sorted({trained.rates[name] for name in sizes if name in trained.rates})
        total, chosen = sum(sizes.values()), sum(n for name, n in sizes.items() if name in trained.rates)
        state = (
            "no parameters"
            if not total
            else "frozen"
            if not chosen
            else "trained"
            if chosen == total
            else "partly trained"
        )
        rows.append(
            (
                part,
                f"{total:,}",
                f"{chosen:,}",
                " .. ".join(f"{r:.3g}" for r in rates[:: max(1, len(rates) - 1)]),
                state,
            )
        )
    return rows


def announce(title: str, parts: Mapping[str, nn.Module], trained: Trained) -> None:
    """One line that says what trains, with how many parameters at which rate, and what is frozen."""
    rows = table(parts, trained)
    learning = [
        f"{part} ({chosen if chosen == total else f'{chosen} of {total}'} at {rate})"
        for part, total, chosen, rate, state in rows
        if "trained" in state.split()
    ]
    frozen = [part for part, _, _, _, state in rows if state == "frozen"]
    told = f"{title}; trains {', '.join(learning) or 'nothing'}"
    console().log(f"{told}; frozen: {', '.join(frozen)}" if frozen else told)


@contextlib.contextmanager
def evaluating(parts: Mapping[str, nn.Module]) -> Iterator[None]:
    """Inside, every module is in eval mode; behind it, each is in the mode it had."""
    modules = [module for part in parts.values() for module in part.modules()]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def trained_state(parts: Mapping[str, nn.Module], trained: Trained, *, keep: bool = True) -> dict[str, Tensor]:
    """What a stage leaves behind: copies on the CPU of every trained parameter and changing buffer, by name.

    Where ranks hold shards, all of them must call it; a rank that does not ``keep`` the copies gets none.
    """
    copies = {}
    for name, tensor in trained.tensors(parts).items():
        full = whole(tensor.detach())
        if keep:
            copies[name] = full.to("cpu", copy=True).contiguous()
    return copies


def load_trained(
    parts: Mapping[str, nn.Module], state: Mapping[str, Tensor], *, trained: Trained | None = None
) -> None:
    """Copy a ``trained_state`` into ``parts``; nothing is changed unless all of it fits.

    Args:
        trained: where given, the state must hold exactly these tensors; otherwise any subset of ``parts`` will do.

    Raises RunError naming tensors that are unknown, missing or of another shape.
    """
    targets = dict(_tensors(parts, remove_duplicate=False))
    for name, tensor in state.items():
        if name not in targets:
            near = nearest(name, targets)
            raise RunError(f"trained state: {name!r} is not in this model{f'; nearest: {near!r}' if near else ''}")
        if tensor.shape != targets[name].shape:
            raise RunError(
                f"trained state: {name!r} has shape {list(tensor.shape)}, the model {list(targets[name].shape)}"
            )
    if trained is not None:
        wanted = {*trained.rates, *trained.buffers}
        if missing := sorted(wanted - state.keys()):
            raise RunError(f"trained state: {len(missing)} tensors are missing, the first is {missing[0]!r}")
        if extra := sorted(state.keys() - wanted):
            raise RunError(f"trained state: {len(extra)} tensors are not trained here, the first is {extra[0]!r}")
    with torch.no_grad():
        for name, tensor in state.items():
            targets[name].copy_(tensor)


def _parameters(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    """Every distinct parameter under its first name."""
    seen: set[int] = set()
    for part, module in parts.items():
        for name, parameter in module.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{part}:{name}", parameter


def _persistent_buffers(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor, nn.Module]]:
    """Every buffer that is part of the state, under its first name, with the module that owns it."""
    for part, module in parts.items():
        for prefix, child in module.named_modules():
            for name, tensor in child.named_buffers(recurse=False):
                if name not in child._non_persistent_buffers_set:
                    yield f"{part}:{prefix}{'.' if prefix else ''}{name}", tensor, child


def _tensors(parts: Mapping[str, nn.Module], *, remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:
    for part, module in parts.items():
        for name, parameter in module.named_parameters(remove_duplicate=remove_duplicate):
            yield f"{part}:{name}", parameter
    for name, tensor, _ in _persistent_buffers(parts):
        yield name, tensor


def _active(parts: Mapping[str, nn.Module], rates: Mapping[str, float]) -> set[int]:
    """Ids of the modules that run in train mode."""
    chosen = {id(parameter) for name, parameter in _parameters(parts) if name in rates}
    active: set[int] = set()

    def visit(module: nn.Module, inherited: bool, still: frozenset[int]) -> None:
        parameters = list(module.parameters())
        trains = any(id(p) in chosen for p in parameters) if parameters else inherited
        if trains and id(module) not in still:
            active.add(id(module))
        for child in module.children():
            visit(child, trains, still)

    for module in parts.values():
        visit(module, False, _still(module))
    return active


def _still(part: nn.Module) -> frozenset[int]:
    """Ids of the modules that stay in eval mode though they train: a trunk's, but for adapters and what they wrap."""
    if not isinstance(part, VisionEncoder):
        return frozenset()
    named = dict(part.trunk.named_modules())
    adapting = {name for name in named if is_adapter(name)}
    adapting |= {name.rpartition(".lora_")[0] for name in adapting}
    return frozenset(id(module) for name, module in named.items() if name not in adapting)


def _reachable(parts: Mapping[str, nn.Module], train: Mapping[str, float]) -> dict[str, nn.Module]:
    """Parts that may train. Raises ConfigError for a pattern that names none of them, but one that may not."""
    reachable = {name: module for name, module in parts.items() if not isinstance(module, Frozen)}
    for pattern in map(Pattern.parse, train):
        named = [part for part in parts if pattern.matches_part(part)]
        if named and reachable.keys().isdisjoint(named):
            raise ConfigError(
                f"train pattern {pattern.text!r}: {', '.join(named)} cannot train, by what the stage means; expected "
                f"a pattern for {', '.join(reachable)}"
            )
    return reachable


def _check_matches(pattern: Pattern, parts: Mapping[str, nn.Module]) -> None:
    """Raises ConfigError, naming the nearest, for a pattern that misses every part, or every parameter there is."""
    matched = [part for part in parts if pattern.matches_part(part)]
    if not matched:
        raise ConfigError(f"train pattern {pattern.text!r}: {unknown('part', pattern.part, parts)}")
    names = [name for part in matched for name, _ in parts[part].named_parameters(remove_duplicate=False)]
    if names and not any(map(pattern.matches_parameter, names)):
        modules = {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}
        wanted = pattern.parameter or ""
        near = nearest(wanted, modules) or nearest(wanted.rstrip("*."), modules)
        hint = (
            f"did you mean {near!r}?" if near else f"it has {', '.join(sorted({n.split('.')[0] for n in names})[:12])}"
        )
        raise ConfigError(f"train pattern {pattern.text!r}: no parameter of {', '.join(matched)} matches; {hint}")
