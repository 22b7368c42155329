"""The blocks of a part: the modules, one like the other, that its activations pass in turn.

They are the unit of whatever is done block by block: computing activations again, compiling, sharding.
"""

from __future__ import annotations

from torch import nn

from ommatidia.core.errors import ConfigError
from ommatidia.models.language.language import LanguageModel

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


def blocks(part: nn.Module) -> list[nn.Module]:
    """The blocks of a part in order; none where it has no row of like modules.

    A language model knows its own. Elsewhere they are the members of every container whose members are of one class
    and are built of further modules; where such members hold containers of that kind themselves (the stages of a
    hierarchical trunk), the inner ones.
    """
    if isinstance(part, LanguageModel):
        try:
            return list(part.blocks)
        except ConfigError:
            return []
    return _below(part)


def _below(module: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in module.children():
        inner = _below(child)
        if not inner and isinstance(child, _CONTAINERS) and _like(list(child.children())):
            inner = list(child.children())
        found += inner
    return found


def _like(members: list[nn.Module]) -> bool:
    """Whether these are blocks: of one class, each of it with modules and parameters inside."""
    return (
        len({type(member) for member in members}) == 1
        and not isinstance(members[0], _CONTAINERS)
        and all(
            next(member.children(), None) is not None and next(member.parameters(), None) is not None
            for member in members
        )
    )
