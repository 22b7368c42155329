"""Pattern: names the parameters that a stage trains, such as "projector", "encoders.*" or "encoders.clip:blocks.2*"."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from ommatidia.core.errors import ConfigError
from ommatidia.core.globs import literal

_SYNTAX = 'expected PART or PART:PARAMETER with globs, for example "projector", "encoders.*", "encoders.clip:blocks.2*"'


@dataclass(frozen=True, slots=True)
class Pattern:
    """A glob over part names and, after a colon, a glob over the parameters inside those parts.

    ``*`` matches any run of characters, dots included. The parameter glob matches a parameter by its full name or by
    the name of a module that holds it: ``neck`` and ``neck.*`` both mean everything below ``neck``, and ``blocks.2``
    means that block alone while ``blocks.2*`` means 20 to 29 as well.
    """

    text: str
    part: str
    parameter: str | None = None

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises ConfigError when the text is no pattern."""
        part, colon, parameter = text.partition(":")
        if not part or (colon and not parameter) or ":" in parameter or any(c.isspace() for c in text):
            raise ConfigError(f"pattern {text!r}: {_SYNTAX}")
        return cls(text, part, parameter if colon else None)

    def matches_part(self, part: str) -> bool:
        return fnmatchcase(part, self.part)

    def matches_parameter(self, name: str) -> bool:
        """Whether the parameter glob covers this parameter of a matching part."""
        if self.parameter is None or fnmatchcase(name, self.parameter):
            return True
        steps = name.split(".")
        return any(fnmatchcase(".".join(steps[:depth]), self.parameter) for depth in range(1, len(steps)))

    @property
    def specificity(self) -> tuple[bool, int, int]:
        """Orders patterns that match one parameter; the greatest wins.

        A pattern with a parameter glob beats one without; then the longer parameter glob wins, then the longer part
        glob, wildcards not counted.
        """
        return self.parameter is not None, literal(self.parameter or ""), literal(self.part)
