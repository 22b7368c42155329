"""The analyses on the command line: parses, calls the analysis, prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[Path, typer.Argument(help="a saved model folder", show_default=False)]
Benchmarks = Annotated[
    str, typer.Option(help="names from omma ls benchmarks, comma-separated, or a YAML file of benchmarks")
]
Limit = Annotated[int | None, typer.Option(min=1, help="at most so many samples a benchmark")]
Data = Annotated[Path | None, typer.Option(help="where the published benchmarks lie; ./data by default")]
Batch = Annotated[int, typer.Option(min=1)]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (ablate, audit, groups, beside, align, attend, text):
        app.command()(command)


def ablate(
    checkpoint: Checkpoint,
    benchmarks: Benchmarks,
    out: Annotated[Path, typer.Option(help="folder of answers, tables and images")] = Path("runs/ablate"),
    by: Annotated[str, typer.Option(help="zero, mean, shuffle, remove; comma-separated")] = "zero",
    most: Annotated[
        int | None, typer.Option(min=1, help="experts taken away together at most; every subset by default")
    ] = None,
    limit: Limit = None,
    data: Data = None,
    batch: Batch = 64,
    device: str = "cpu",
) -> None:
    """Take experts out of a mixture at inference: what each, and each set of them, is worth to every benchmark."""
    from ommatidia.lab.analysis.ablate import ablate_checkpoint
    from ommatidia.lab.nodes.treatment import read_treatments
    from ommatidia.lab.saved.evaluation import Choices, read_benchmarks

    treatments, chosen = read_treatments(by), read_benchmarks(benchmarks, Choices(data=data, limit=limit))
    ablate_checkpoint(checkpoint, chosen, out=out, treatments=treatments, most=most, batch=batch, device=device).show()


def audit(
    checkpoint: Checkpoint,
    benchmarks: Benchmarks,
    out: Annotated[Path, typer.Option(help="folder of answers, table and image")] = Path("runs/audit"),
    limit: Limit = None,
    data: Data = None,
    batch: Batch = 64,
    device: str = "cpu",
) -> None:
    """Is the image needed? Scores with images, wrong ones, gray ones, none at all, and by random guessing."""
    from ommatidia.lab.analysis.audit import audit_checkpoint
    from ommatidia.lab.saved.evaluation import Choices, read_benchmarks

    chosen = read_benchmarks(benchmarks, Choices(data=data, limit=limit))
    audit_checkpoint(checkpoint, chosen, out=out, batch=batch, device=device).show()


def groups(
    scores: Annotated[list[Path], typer.Argument(help="tables of scores (CSV, JSON) or results of omma --json eval")],
    out: Annotated[Path, typer.Option(help="folder of table and images")] = Path("runs/groups"),
    layout: Annotated[str, typer.Option(help="whose columns the averages take: cambrian or eagle")] = "cambrian",
    method: Annotated[str, typer.Option(help="of correlation: pearson or spearman")] = "pearson",
    clusters: Annotated[
        int | None, typer.Option(min=2, help="how many groups, where there are any; as many as components by default")
    ] = None,
) -> None:
    """How benchmarks group by the scores of many models, and each model's average over every group."""
    from typing import cast, get_args

    from ommatidia.core.errors import ConfigError, unknown
    from ommatidia.eval.statistics.grouping import LAYOUTS, Layout, Method
    from ommatidia.lab.analysis.groups import group_benchmarks, read_scores

    for option, given, valid in (("layout", layout, list(LAYOUTS)), ("method", method, get_args(Method))):
        if given not in valid:
            raise ConfigError(f"--{option}: {unknown(option, given, valid)}")
    table = read_scores(scores)
    whose, how = cast(Layout, layout), cast(Method, method)
    group_benchmarks(table, out=out, layout=whose, method=how, clusters=clusters).show()


def beside(
    first: Annotated[Path, typer.Argument(help="an answer file of omma eval")],
    second: Annotated[Path, typer.Argument(help="another model's answers to the same benchmark")],
    benchmark: Annotated[str, typer.Option(help="the benchmark both answered: a name, or a YAML file")],
    out: Annotated[Path, typer.Option(help="the page to write")] = Path("runs/beside.html"),
    names: Annotated[str, typer.Option(help="what to call the two, comma-separated")] = "first,second",
    limit: Limit = None,
    data: Data = None,
    most: Annotated[int, typer.Option(min=1, help="samples shown for each side at most")] = 40,
) -> None:
    """The samples one model gets right and another wrong, as a page of images with both answers."""
    from ommatidia.core.errors import ConfigError
    from ommatidia.lab.analysis.beside import beside as lay
    from ommatidia.lab.saved.evaluation import Choices, read_benchmarks

    chosen, called = (
        read_benchmarks(benchmark, Choices(data=data, limit=limit)),
        [name.strip() for name in names.split(",")],
    )
    if len(chosen) != 1 or len(called) != 2:
        raise ConfigError("one benchmark and two names are wanted, as in --benchmark chartqa --names eagle,cambrian")
    lay(chosen[0].open(), (first, second), (called[0], called[1]), out=out, most=most).show()


def align(
    checkpoints: Annotated[list[Path], typer.Argument(help="saved model folders", show_default=False)],
    benchmark: Annotated[str, typer.Option(help="whose samples are looked at: a name, or a YAML file")],
    out: Annotated[Path, typer.Option(help="folder of numbers and image")] = Path("runs/align"),
    limit: Limit = 50,
    data: Data = None,
    batch: Batch = 8,
    device: str = "cpu",
) -> None:
    """How alike visual and text tokens become, layer by layer inside the language model (VILA's figure)."""
    from ommatidia.core.errors import ConfigError
    from ommatidia.lab.analysis.alignment import align_checkpoints
    from ommatidia.lab.saved.evaluation import Choices, read_benchmarks

    chosen = read_benchmarks(benchmark, Choices(data=data, limit=limit))
    named = {str(folder): folder for folder in checkpoints}
    if len(chosen) != 1:
        raise ConfigError(f"--benchmark: one is wanted, got {len(chosen)}")
    align_checkpoints(named, chosen[0].open(), out=out, batch=batch, device=device).show()


def attend(
    checkpoint: Checkpoint,
    question: Annotated[str, typer.Argument(help="one question about the image")],
    image: Annotated[Path, typer.Option(help="the image")],
    answer: Annotated[str | None, typer.Option(help="look at this answer instead of the model's own")] = None,
    out: Annotated[Path, typer.Option(help="the image to write; numbers stand beside it")] = Path("runs/attend.png"),
    device: str = "cpu",
) -> None:
    """Where an answer looks: its attention to the visual tokens, over the image, per expert where they are apart."""
    from ommatidia.lab.analysis.alignment import attend as look

    look(checkpoint, image, question, out=out, answer=answer, device=device).show()


def text(
    checkpoint: Checkpoint,
    tasks: Annotated[str, typer.Option(help="tasks of lm-eval, comma-separated, e.g. mmlu,gsm8k")],
    before: Annotated[Path | None, typer.Option(help="the model it came from, to compare with")] = None,
    include: Annotated[Path | None, typer.Option(help="folder of task files of your own")] = None,
    limit: Limit = None,
    shots: Annotated[int | None, typer.Option(min=0, help="solved examples; as the task says by default")] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="let HumanEval and MBPP run what the model wrote")
    ] = False,
    batch: Batch = 8,
    device: str = "cpu",
) -> None:
    """What training on images cost the language model: lm-evaluation-harness's tasks, before and after."""
    from ommatidia.lab.saved.text_only import compare_words

    names = [name.strip() for name in tasks.split(",")]
    compare_words(
        checkpoint, before, names, include=include, limit=limit, shots=shots, run_code=run_code, batch=batch,
        device=device,
    ).show()  # fmt: skip
