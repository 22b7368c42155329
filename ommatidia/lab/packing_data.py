"""A stage's data in tokens, made beforehand, driven: one folder a source, and the mixture of them all."""

from __future__ import annotations

from pathlib import Path

from ommatidia.core.console import console
from ommatidia.core.errors import DiskError
from ommatidia.data.mixture import MixtureConfig
from ommatidia.data.tokenised import PART, Tokenised, write_tokenised
from ommatidia.lab.driven import Driven
from ommatidia.lab.recipe import Recipe
from ommatidia.models.processor import Processor


def pack(recipe: Recipe, stage: str | None, out: Path, *, part: int = PART) -> Driven:
    """Write the tokens of a stage's sources into ``out``; stopped anywhere, the same call goes on.

    Raises ConfigError, DataError or DiskError.
    """
    chosen = recipe.stage(stage)
    processor, data = Processor(chosen.reading(recipe.model)), chosen.data
    told = Driven()
    sources = {}
    for key, weighted in data.sources.items():
        folder, records = out / key, 0
        with console().progress(f"pack {key}", None) as bar:
            for count in write_tokenised(weighted.source, processor.write, processor.speech, folder, part=part):
                bar.advance(count)
                records += count
        sources[key] = weighted.model_copy(update={"source": Tokenised(path=folder)})
        told.lines.append(f"{key}: {records:,} records in {folder}")
    mixture: MixtureConfig = data.model_copy(update={"sources": sources})
    try:
        (out / "mixture.yaml").write_text(mixture.to_yaml(), encoding="utf-8")
    except OSError as error:
        raise DiskError(f"{out}: {error.strerror}") from None
    told.lines.append(f"mixture: {out / 'mixture.yaml'}")
    told.data = {"mixture": str(out / "mixture.yaml"), "sources": list(sources)}
    return told
