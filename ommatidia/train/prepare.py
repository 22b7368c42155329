"""From a model as it was built to one as a stage trains it: types, recomputation, compilation, layout, chunks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError
from ommatidia.models.language import LanguageModel
from ommatidia.models.language.mixing import refuse_mixing
from ommatidia.train.compiled import channels_last, compile_blocks
from ommatidia.train.engine import Engine
from ommatidia.train.freeze import Trained
from ommatidia.train.precision import hold
from ommatidia.train.recompute import recompute
from ommatidia.train.stage import Stage


def prepare(
    parts: Mapping[str, nn.Module],
    trained: Trained,
    stage: Stage,
    *,
    device: torch.device,
    compiler: str = "inductor",
) -> None:
    """Everything that happens to the modules before they are sharded and an optimiser looks at them, in this order:
    the types they are held in, memory layout, recomputation, and around it compilation.

    Names, ties and state stay as they are. Raises ConfigError for a part that ``stage.engine`` names in vain.
    """
    engine = stage.engine
    hold(parts, trained, stage)
    _set_chunk(parts, engine.chunk)
    done = {
        "channels last": channels_last(parts, engine.channels_last),
        "recomputed": recompute(parts, engine.recompute),
        "compiled": compile_blocks(parts, engine.compile, device=device.type, backend=compiler),
    }
    for what, counts in done.items():
        if counts:
            said = ", ".join(f"{part} ({count})" for part, count in counts.items())
            console().log(f"stage {stage.name}: {what}: {said}")


def check_engine(parts: Mapping[str, nn.Module], engine: Engine, *, device: str) -> None:
    """Raises ConfigError where ``prepare`` would; the parts may be on the meta device, and are of no other use behind
    it."""
    _set_chunk(parts, engine.chunk)
    channels_last(parts, engine.channels_last)
    recompute(parts, engine.recompute)
    compile_blocks(parts, engine.compile, device=torch.device(device).type, backend="inductor")


def check_packing(parts: Mapping[str, nn.Module], stage: Stage) -> None:
    """Once, on the model as it was built. Raises RunError where a decoder would mix the samples of a pack."""
    for part in parts.values() if stage.engine.packing is not None else ():
        if isinstance(part, LanguageModel):
            refuse_mixing(part)


def _set_chunk(parts: Mapping[str, nn.Module], chunk: int | None) -> None:
    speaking = [part for part in parts.values() if isinstance(part, LanguageModel)]
    if chunk is not None and not speaking:
        raise ConfigError(f"engine.chunk {chunk}: no language model is trained or passed here, so there are no logits")
    for part in speaking:
        part.chunk = chunk
