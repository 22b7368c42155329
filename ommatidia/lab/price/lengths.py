"""Lengths of a stage's samples before anything runs: read off the data, or assumed where it is not on this machine."""

from __future__ import annotations

from ommatidia.lab.price.cost import SampleTokens, sample_tokens
from ommatidia.models.config import MLLMConfig
from ommatidia.train.stage import Stage

ASSUMED_TEXT = 256
ASSUMED_SUPERVISED = 64
"""Tokens of text of a sample, and those of them that are supervised, where no data says it."""


def absent(stage: Stage) -> list[str]:
    """What the stage's sources read and what is not here."""
    found = (weighted.source.absent() for weighted in stage.data.used().values())
    return [path for path in found if path is not None]


def unread(stage: Stage, model: MLLMConfig) -> str:
    """Why the lengths of a stage's samples cannot be read; empty where they can."""
    if paths := absent(stage):
        return f"no data at {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    if model.language.has_tokenizer():
        return ""
    return f"no tokenizer of {model.language.to_dict().get('path')} on disk"


def mean_tokens(stage: Stage, model: MLLMConfig) -> SampleTokens:
    """The mean sample of a stage, or an assumed one."""
    return assumed_tokens(model) if unread(stage, model) else sample_tokens(stage.data, model)


def assumed_tokens(model: MLLMConfig) -> SampleTokens:
    """One image of the size that brings most visual tokens, and some text."""
    seen = (0, 0, 0)
    if model.encoders:
        seen = (1, len(model.tiling.views(*model.tiling.largest())), model.most_visual_tokens)
    return SampleTokens(ASSUMED_TEXT, ASSUMED_SUPERVISED, *seen, 0)


def published_records(stage: Stage) -> int | None:
    """Samples of one epoch, from what was published of each source; None where one of them does not say."""
    sizes = {name: weighted.source.published_size() for name, weighted in stage.data.used().items()}
    published = {name: size for name, size in sizes.items() if size is not None}
    return stage.data.divide(published).epoch if len(published) == len(sizes) else None


def known_steps(stage: Stage) -> int | None:
    """Optimiser steps, from what was published of data that is not here; None: nobody knows."""
    if stage.steps is not None:
        return stage.steps
    records = published_records(stage) if absent(stage) else stage.data.open().size
    return None if records is None else stage.total_steps(records)
