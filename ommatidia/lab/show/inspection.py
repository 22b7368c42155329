"""One sample as the model sees it: each encoder's view, the token row, the label mask; as an image and as data."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ommatidia.core.command_result import Table
from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, unknown
from ommatidia.core.owned_file import check_file, put_file
from ommatidia.core.picture import FilePicture
from ommatidia.core.plots import new_figure
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Example, ImagePart, Message, Part, Picture, Sample
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.plan import alone, blind
from ommatidia.lab.search import Search
from ommatidia.models.pretrained import read_config
from ommatidia.models.processor import Processor
from ommatidia.models.vision.tiling import Mark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEXT, _ANSWER, _VISUAL = "#e8e8e8", "#b7dfb9", "#c9d8f0"


@dataclass(frozen=True)
class Run:
    """Neighbouring tokens of one nature: ``text``, ``answer`` (supervised) or ``visual``."""

    nature: str
    pieces: tuple[str, ...]
    start: int

    @property
    def words(self) -> str:
        return f"{len(self.pieces)} visual tokens" if self.nature == "visual" else "".join(self.pieces)


@dataclass(frozen=True)
class Inspection:
    """Where the image was written, and the same facts as tables and data."""

    path: Path
    tables: list[Table]
    data: dict[str, Any]


def inspect_recipe(value: Config, stage: str | None, index: int, out: Path) -> Inspection:
    """The sample at a position of a stage's stream. Raises ConfigError for an unknown stage."""
    if isinstance(value, Search):
        first = value.strategy.first()
        value = max(first, key=lambda recipe: len(recipe.model.encoders))
    if not isinstance(value, Recipe):
        raise ConfigError(
            f"a {type(value).__name__} cannot be inspected; expected a Recipe, a Search or a model folder"
        )
    chosen = value.stage(stage)
    model = chosen.model_for_stage(value.model)
    if chosen.scope == "expert" and len(model.encoders) > 1:
        model = alone(model, next(iter(model.encoders)))
    if chosen.scope == "language":
        model = blind(model)
    sample = chosen.data.open().draw(index, seed=chosen.seed_or(value.seed))
    return _inspect(Processor(model), sample, out, answer=True)


def inspect_model(folder: Path, image: Path | None, question: str, out: Path) -> Inspection:
    """An image and a question as a saved model would receive them."""
    if image is None:
        raise ConfigError("--image: name an image to look at with this model")
    processor = Processor(read_config(folder))
    parts: tuple[Part, ...] = (ImagePart(0), processor.chat.after_image, question)
    sample = Sample(image.name, (Message("user", parts),), (FilePicture(image),))
    return _inspect(processor, sample, out, answer=False)


def _inspect(processor: Processor, sample: Sample, out: Path, *, answer: bool) -> Inspection:
    check_file(out)
    example = processor(sample, answer=answer)
    runs = token_runs(processor, example)
    figure = _draw(processor, sample, example, runs)
    formats = figure.canvas.get_supported_filetypes()
    if (suffix := out.suffix.removeprefix(".")) not in formats:
        raise ConfigError(f"{out}: {unknown('kind of image', suffix, formats)}")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=suffix, dpi=110)
    put_file(out, drawn.getvalue())
    rows = [[run.start, len(run.pieces), run.nature, run.words] for run in runs]
    encoders = [
        [name, "x".join(map(str, p.size)), str(processor.config.encoders[name].grid()), p.fit]
        for name, p in processor.preprocess.items()
    ]
    cut = [
        [n, v.picture, f"{v.size[0]}x{v.size[1]}", " ".join(f"{edge:.2f}" for edge in v.box), mark]
        for n, (v, mark) in enumerate(zip(example.views, marks(processor, sample), strict=True))
    ]
    tables: list[Table] = [
        ("views", ("encoder", "pixels", "grid", "fit"), encoders),
        *([("tiles", ("view", "picture", "pixels", "top left bottom right", "mark"), cut)] if cut else []),
        ("tokens", ("at", "count", "nature", "text"), rows),
    ]
    data = {
        "id": sample.id,
        "tokens": len(example.ids),
        "views": len(example.views),
        "visual_tokens": int((example.ids == IMAGE_TOKEN_ID).sum()),
        "supervised": example.supervised,
        "runs": [{"start": r.start, "count": len(r.pieces), "nature": r.nature, "text": r.words} for r in runs],
    }
    return Inspection(out, tables, data)


def _shown(processor: Processor, sample: Sample) -> list[Picture]:
    """The images of a sample in the order of its words; none for a model that sees nothing."""
    parts = [part for message in sample.messages for part in message.parts if isinstance(part, ImagePart)]
    return [sample.images[part.index] for part in parts] if processor.config.encoders else []


def marks(processor: Processor, sample: Sample) -> list[str]:
    """For every view the text that announces it, or nothing."""
    found: list[str] = []
    for picture in _shown(processor, sample):
        size = picture.size()
        said = {
            p.view: p.text for p in processor.config.token_layout(*size) if isinstance(p, Mark) and p.view is not None
        }
        found += [said.get(view, "") for view in range(len(processor.config.tiling.views(*size)))]
    return found


def token_runs(processor: Processor, example: Example) -> list[Run]:
    """The token row in runs of one nature."""
    runs: list[Run] = []
    for at, (token, label) in enumerate(zip(example.ids.tolist(), example.labels.tolist(), strict=True)):
        visual = token == IMAGE_TOKEN_ID
        nature = "visual" if visual else "text" if label == IGNORE_LABEL else "answer"
        piece = "" if visual else processor.tokenizer.piece(token)
        if runs and runs[-1].nature == nature:
            runs[-1] = Run(nature, (*runs[-1].pieces, piece), runs[-1].start)
        else:
            runs.append(Run(nature, (piece,), at))
    return runs


def _draw(processor: Processor, sample: Sample, example: Example, runs: Sequence[Run]) -> Figure:
    pieces = [(run.nature, piece) for run in runs for piece in ([run.words] if run.nature == "visual" else run.pieces)]
    lines = _wrap(pieces, width=100)
    rows, columns = max(1, len(example.views)), 1 + len(processor.preprocess)
    row = 3.2 if rows == 1 else max(1.0, min(2.4, 120 / rows))
    heights = row * rows if sample.images else 0.4, 0.34 * len(lines) + 0.8
    figure = new_figure(figsize=(max(8.0, 2.6 * columns), sum(heights)), layout="constrained")
    top, bottom = cast(Any, figure.subfigures)(2, 1, height_ratios=list(heights))
    figure.suptitle(f"{sample.id}: {len(example.ids)} tokens, {example.supervised} supervised", fontsize=11)
    if example.views:
        _draw_views(top.subplots(rows, columns, squeeze=False), processor, sample, example)
    elif sample.images:
        _show(top.subplots(), sample.images[0].open(), "picture")
    _write_tokens(bottom.subplots(), lines)
    return figure


def _draw_views(axes: Any, processor: Processor, sample: Sample, example: Example) -> None:
    """One row a view: what was cut, and what each encoder sees of it; a whole image stands in its first row."""
    tiling = processor.config.tiling
    cut = [view for picture in _shown(processor, sample) for view in tiling.cut(picture.open())]
    said = marks(processor, sample)
    for number, view in enumerate(example.views):
        title = "picture" if len(cut) == 1 else f"view {number}, {view.size[0]}x{view.size[1]} px\n{said[number]}"
        _show(axes[number, 0], cut[number], title)
        first = number == 0 or example.views[number - 1].picture != view.picture
        for axis, (name, prepare) in zip(axes[number, 1:], processor.preprocess.items(), strict=True):
            whole = name in tiling.seen_whole
            if whole and not first:
                axis.axis("off")
                continue
            grid = processor.config.encoders[name].grid()
            seen = seen_pixels(processor, example, name, view.picture if whole else number)
            size = f"{prepare.size[0]}x{prepare.size[1]} px"
            _show(axis, seen, f"{name}{' (whole)' if whole else ''}\n{size}, grid {grid.height}x{grid.width}")


def seen_pixels(processor: Processor, example: Example, name: str, row: int) -> Any:
    """One row of an encoder's pixels with its normalisation undone, H_W_C in [0, 1]."""
    import torch

    prepare, pixels_CHW = processor.preprocess[name], example.pixels[name][row]
    mean, std = torch.tensor(prepare.mean)[:, None, None], torch.tensor(prepare.std)[:, None, None]
    return (pixels_CHW * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()


def _show(axis: Any, image: Any, title: str) -> None:
    axis.imshow(image)
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])


def _wrap(pieces: Sequence[tuple[str, str]], *, width: int) -> list[list[tuple[str, str]]]:
    """Break the token row into lines of about ``width`` characters."""
    lines: list[list[tuple[str, str]]] = [[]]
    used = 0
    for nature, piece in pieces:
        text = piece.replace("\n", "\\n") or " "
        if used + len(text) + 1 > width and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append((nature, text))
        used += len(text) + 1
    return lines


def _write_tokens(axis: Any, lines: Sequence[Sequence[tuple[str, str]]]) -> None:
    """Boxes of one token each, coloured by nature, in a fixed-width font."""
    colours = {"text": _TEXT, "answer": _ANSWER, "visual": _VISUAL}
    axis.set_xlim(0, 106)
    axis.set_ylim(len(lines) + 1.2, -0.2)
    axis.axis("off")
    for row, line in enumerate(lines):
        x = 0.0
        for nature, text in line:
            box = {"boxstyle": "round,pad=0.15", "facecolor": colours[nature], "edgecolor": "none"}
            axis.text(x + 0.3, row + 0.5, text, family="monospace", fontsize=7.5, va="center", bbox=box)
            x += len(text) + 1.2
    legend = (("text", "no loss"), ("answer", "supervised"), ("visual", "from the encoders"))
    for place, (nature, words) in enumerate(legend):
        box = {"boxstyle": "round,pad=0.2", "facecolor": colours[nature], "edgecolor": "none"}
        axis.text(place * 22 + 0.3, len(lines) + 0.7, words, fontsize=8, va="center", bbox=box)
