"""A stage's data in tokens, made beforehand, driven: one folder a source, and the mixture of them all."""

from __future__ import annotations

from pathlib import Path

from ommatidia.core.command_result import CommandResult
from ommatidia.core.console import console
from ommatidia.core.owned_file import check_file, put_file
from ommatidia.data.mixture import MixtureConfig
from ommatidia.data.tokenised import PART, Tokenised, write_tokenised
from ommatidia.lab.recipe import Recipe
from ommatidia.models.processor import Processor


def pack(recipe: Recipe, stage: str | None, out: Path, *, part: int = PART) -> CommandResult:
    """Write the tokens of a stage's sources into ``out``; stopped anywhere, the same call goes on.

    Raises ConfigError, also for a file there that we did not write or that was changed; DataError, RunError, DiskError.
    """
    chosen = recipe.stage(stage)
    processor, data = Processor(chosen.model_for_stage(recipe.model)), chosen.data
    told = CommandResult()
    sources = {}
    mixture_file = out / "mixture.yaml"
    check_file(mixture_file)
    for key, weighted in data.sources.items():
        folder, records = out / key, 0
        with console().progress(f"pack {key}", len(weighted.source.open())) as bar:
            for count in write_tokenised(weighted.source, processor.write, processor.speech, folder, part=part):
                bar.advance(count)
                records += count
        sources[key] = weighted.model_copy(update={"source": Tokenised(path=folder)})
        told.lines.append(f"{key}: {records:,} records in {folder}")
    mixture: MixtureConfig = data.model_copy(update={"sources": sources})
    put_file(mixture_file, mixture.to_yaml().encode())
    told.lines.append(f"mixture: {mixture_file}")
    told.data = {"mixture": str(mixture_file), "sources": list(sources)}
    return told
