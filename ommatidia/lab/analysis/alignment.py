"""Inside the language model: how alike visual and text tokens become, and where an answer looks in the image.

The first is VILA's figure (arXiv 2312.07533, section 3): frozen language models keep the two apart in their deep
layers, tuned ones bring them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ommatidia.core.command_result import CommandResult
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.picture import FilePicture
from ommatidia.core.plots import new_figure
from ommatidia.core.types import ImagePart, Message, Sample
from ommatidia.eval.benchmark import Benchmark, cluster_of
from ommatidia.eval.statistics import mean_interval
from ommatidia.eval.statistics.run_scores import Array
from ommatidia.lab.analysis.asking import as_json, written
from ommatidia.lab.report.figures.layers import layer_curves
from ommatidia.lab.show.inspection import seen_pixels
from ommatidia.models.config import MLLMConfig
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load
from ommatidia.models.probing import answer_attention, deep_alignment
from ommatidia.models.processor import Processor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def align_checkpoints(
    checkpoints: Mapping[str, Path], benchmark: Benchmark, *, out: Path, batch: int = 8, device: str = "cpu"
) -> CommandResult:
    """The likeness of visual and text tokens behind every block, for each checkpoint on the same samples.

    Writes alignment.json and alignment.svg. Raises ConfigError for a model that sees nothing or whose images stand
    nowhere in the sequence.
    """
    samples = [s for _, s in benchmark.readable() if isinstance(s, Sample) and s.images]
    if not samples:
        raise ConfigError(f"{benchmark.name}: no sample has an image")
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for name, folder in checkpoints.items():
        model, processor = load(folder, device=device)
        if not processor.config.encoders:
            raise ConfigError(f"{folder}: a language model without encoders has no visual token")
        found: list[list[float]] = []
        for start in range(0, len(samples), batch):
            examples = [processor(sample) for sample in samples[start : start + batch]]
            found += deep_alignment(model, processor.collate(examples).to(device))
        curves[name] = _banded(np.asarray(found), [cluster_of(sample) for sample in samples])
    title = f"Likeness of visual and text tokens on {len(samples)} samples of {benchmark.name}"
    data = {
        "benchmark": benchmark.name,
        "samples": len(samples),
        "models": {
            name: [dict(zip(("mean", "low", "high"), point, strict=True)) for point in curve]
            for name, curve in curves.items()
        },
    }
    picture = layer_curves(title, curves, what="mean largest cosine")
    paths = written(out, {"alignment.json": as_json(data), "alignment.svg": picture})
    rows = [[name, f"{c[0][0]:.3f}", f"{c[len(c) // 2][0]:.3f}", f"{c[-1][0]:.3f}"] for name, c in curves.items()]
    table = (title, ("model", "embeddings", "half way", "last"), rows)
    return CommandResult(tables=[table], data=data, lines=[f"written: {path}" for path in paths])


def _banded(values_NL: Array, clusters: Sequence[str]) -> list[tuple[float, float, float]]:
    """Mean and 95 % interval of a cosine by state; the image is the unit of sampling."""
    found = [mean_interval(column, clusters, bounds=(-1.0, 1.0)) for column in values_NL.T]
    return [(one.mean, one.low, one.high) for one in found]


def attend(
    checkpoint: Path, image: Path, question: str, *, out: Path, answer: str | None = None, device: str = "cpu"
) -> CommandResult:
    """Draw what the positions that speak the answer attend to, over what the model sees, and of each expert alone
    where the fusion keeps its tokens apart.

    The model's own answer, unless one is given. Writes a PNG beside whose name the numbers stand as JSON. Raises
    ConfigError for an injection without visual tokens in the sequence, RunError where there is no answer.
    """
    model, processor = load(checkpoint, device=device)
    if not processor.config.encoders:
        raise ConfigError(f"{checkpoint}: a language model without encoders sees no image")
    parts = (ImagePart(0), processor.chat.after_image, question)
    sample = Sample("attend", (Message("user", parts),), (FilePicture(image),))
    said = generate(model, processor, [sample], Decoding())[0] if answer is None else answer
    if not said.strip():
        raise RunError("the model's answer is empty: there is nothing whose attention could be looked at")
    full = replace(sample, messages=(*sample.messages, Message("assistant", (said,))))
    heat_LKHW = look(model, processor, full, device=device)
    maps = _maps(processor.config, heat_LKHW.mean(0))
    shares = {name: float(each.sum()) for name, each in maps.items()}
    data: dict[str, Any] = {"question": question, "answer": said, "shares": shares}
    data["share_by_layer"] = [float(layer.sum()) for layer in heat_LKHW]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _draw(processor, full, maps, shares).savefig(out, dpi=110)
    except OSError as error:
        raise RunError(f"{out}: {error.strerror or error}") from None
    written(out.parent, {out.with_suffix(".json").name: as_json(data)})
    rows = [[name, f"{100 * share:.1f}"] for name, share in shares.items()]
    table = (f"attention of the answer {said!r}", ("visual tokens", "share of all attention %"), rows)
    return CommandResult(tables=[table], data=data | {"picture": str(out)}, lines=[f"image: {out}"])


def look(model: MLLM, processor: Processor, sample: Sample, *, device: str = "cpu") -> torch.Tensor:
    """heat_LKHW of one sample with its answer."""
    grid = processor.config.visual_grid()
    assert grid is not None
    batch = processor.collate([processor(sample)]).to(device)
    return answer_attention(model, batch, (grid.height, grid.width)).cpu()


def _maps(config: MLLMConfig, heat_KHW: torch.Tensor) -> dict[str, torch.Tensor]:
    """All visual tokens, and each expert's own where the projector leaves the fused grid as it is."""
    fused, grid = config.fused_grid(), config.visual_grid()
    assert fused is not None
    assert grid is not None
    if (fused.height, fused.width) != (grid.height, grid.width):
        return {"all": heat_KHW}
    own = config.fusion.own_tokens(config.grids())
    experts = {name: heat_KHW[:, rows, columns] for name, (rows, columns) in own.items()}
    return experts or {"all": heat_KHW}


def _draw(
    processor: Processor, sample: Sample, maps: Mapping[str, torch.Tensor], shares: Mapping[str, float]
) -> Figure:
    """One row a view, one column a map; brightness is comparable over the whole figure."""
    example = processor(sample)
    rows = len(example.views)
    figure = new_figure(figsize=(3.0 * (1 + len(maps)), 3.1 * rows + 0.5), layout="constrained")
    axes: Any = figure.subplots(rows, 1 + len(maps), squeeze=False)
    first = next(iter(processor.preprocess))
    brightest = max(float(each.max()) for each in maps.values()) or 1.0
    for row, view in enumerate(example.views):
        for column, name in enumerate(["", *maps]):
            axis = axes[row, column]
            shown = name if name in processor.preprocess else first
            whole = shown in processor.config.tiling.seen_whole
            pixels = seen_pixels(processor, example, shown, view.picture if whole else row)
            height, width = pixels.shape[:2]
            box = (0, width, height, 0)
            # Gray below the map, so that no colour of the image is taken for attention.
            axis.imshow(pixels.mean(-1) if name else pixels, extent=box, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
            if name:
                axis.imshow(
                    maps[name][row], extent=box, cmap="inferno", alpha=0.62, vmin=0, vmax=brightest,
                    interpolation="bilinear",
                )  # fmt: skip
            axis.set_title(f"{name}: {100 * shares[name]:.1f} % of attention" if name else "what is seen", fontsize=9)
    figure.suptitle(f"{sample.question.strip()}  →  {sample.answer}", fontsize=11)
    return figure
