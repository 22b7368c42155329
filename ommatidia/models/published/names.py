"""From published tensor names to ours: every one is used, or left aside for a stated reason, or an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ommatidia.core.errors import RunError, nearest


@dataclass(frozen=True, slots=True)
class Rule:
    """Published names that match ``pattern`` in full. ``ours`` is what they become, with ``\\1`` for the groups; None:
    they are left aside, because of ``reason``."""

    pattern: str
    ours: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """Where each published tensor went."""

    used: Mapping[str, str]
    """Published name -> ours."""
    ignored: Mapping[str, str] = field(default_factory=dict)
    """Published name -> why it is left aside."""

    def table(self) -> list[list[str]]:
        """Rows of part, tensors: what was used by part, and what was left aside by reason."""
        parts: dict[str, int] = {}
        for ours in self.used.values():
            parts[_part(ours)] = parts.get(_part(ours), 0) + 1
        reasons: dict[str, int] = {}
        for why in self.ignored.values():
            reasons[why] = reasons.get(why, 0) + 1
        rows = [[part, str(count), ""] for part, count in parts.items()]
        return rows + [["left aside", str(count), why] for why, count in reasons.items()]


def _part(name: str) -> str:
    steps = name.split(".")
    return ".".join(steps[:2]) if steps[0] == "encoders" else steps[0]


def account(
    names: Iterable[str], rules: Sequence[Rule], expected: Mapping[str, tuple[int, ...]], *, what: str
) -> Account:
    """Apply the first rule that matches each name.

    ``expected`` holds our names and shapes; all must be reached, none twice. Raises RunError that names the first
    tensor that is unknown, missing, or reached twice.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    used: dict[str, str] = {}
    ignored: dict[str, str] = {}
    reached: dict[str, str] = {}
    for name in names:
        rule, found = next(((rule, m) for pattern, rule in compiled if (m := pattern.fullmatch(name))), (None, None))
        if rule is None or found is None:
            raise RunError(f"{what}: the tensor {name!r} has no known meaning{_near(name, used)}")
        if rule.ours is None:
            ignored[name] = rule.reason
            continue
        ours = found.expand(rule.ours)
        if ours not in expected:
            raise RunError(f"{what}: {name!r} would be {ours!r}, which the model does not have{_near(ours, expected)}")
        if ours in reached:
            raise RunError(f"{what}: {name!r} and {reached[ours]!r} both claim {ours!r}")
        used[name], reached[ours] = ours, name
    if missing := [name for name in expected if name not in reached]:
        raise RunError(f"{what}: {len(missing)} tensors are missing; the first would become {missing[0]!r}")
    return Account(used, ignored)


def _near(name: str, known: Iterable[str]) -> str:
    near = nearest(name, list(known))
    return f"; nearest: {near!r}" if near else ""
