"""Frozen: modules that a stage needs and never trains, whatever its patterns say, such as the teachers of a student."""

from __future__ import annotations

from torch import nn


class Frozen(nn.ModuleDict):
    """A part that is frozen by what the stage means: globs pass it by, and a pattern that names it is an error."""
