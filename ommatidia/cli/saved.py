"""What is done with saved models: evaluate, score, import, export, chat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ommatidia.cli import options as opt
from ommatidia.core.console import console


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for name, command in (
        ("eval", evaluate),
        ("score", score),
        ("import", import_),
        ("export", export),
        ("chat", chat),
    ):
        app.command(name)(command)


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="a saved model folder")],
    benchmarks: Annotated[
        str, typer.Option(help="names from omma ls benchmarks, comma-separated, or a YAML file of benchmarks")
    ],
    out: Annotated[Path, typer.Option(help="folder of the answers; evaluation goes on from what is there")] = Path(
        "runs/eval"
    ),
    data: Annotated[Path | None, typer.Option(help="folder that holds the copies of published benchmarks")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many samples a benchmark")] = None,
    prompt: Annotated[str | None, typer.Option(help="whose words are sent, e.g. lmms-eval or cambrian")] = None,
    shots: Annotated[int, typer.Option(min=0, help="solved examples before each question")] = 0,
    shots_split: Annotated[str, typer.Option(help="split that the examples are drawn from")] = "train",
    shots_seed: Annotated[int, typer.Option(min=0)] = 0,
    text_shots: Annotated[bool, typer.Option("--text-shots", help="examples without their images")] = False,
    blind: Annotated[bool, typer.Option(help="ask a second time without images")] = True,
    batch: Annotated[int, typer.Option(min=1)] = 64,
    device: str = "cpu",
) -> None:
    """Evaluate a saved model: answers as JSONL, scores with intervals, the blind score beside each."""
    from ommatidia.lab.saved.evaluation import Choices, evaluate_checkpoint

    choices = Choices(data, limit, prompt, shots, shots_split, shots_seed, text_shots)
    evaluate_checkpoint(
        checkpoint, benchmarks, out=out, choices=choices, blind=blind, batch=batch, device=device
    ).show()


def score(
    files: Annotated[list[Path], typer.Argument(help="files of answers that omma eval wrote")],
    benchmark: Annotated[str | None, typer.Option(help="which benchmark they must be answers to")] = None,
    data: Annotated[Path | None, typer.Option(help="folder that holds the copies of published benchmarks")] = None,
    judge: Annotated[bool, typer.Option(help="ask the judge that the environment names, if any")] = True,
) -> None:
    """Score stored answers again: no model, no network but for a judge."""
    from ommatidia.lab.saved.scoring import score_answers

    score_answers(files, benchmark=benchmark, data=data, judged=judge).show()


def import_(
    path: Annotated[Path, typer.Argument(help="a published checkpoint: Eagle-1, Cambrian-1, LLaVA-1.5 or NeXT")],
    out: Annotated[Path, typer.Argument(help="the Ommatidia folder to write")],
    encoders: Annotated[
        Path | None, typer.Option(help="YAML of encoders by name, for those the checkpoint does not hold")
    ] = None,
    changes: opt.Changes = None,
    pickles: Annotated[
        bool, typer.Option("--allow-pickle", help="read a folder of pickles: tensors alone, no code is run")
    ] = False,
) -> None:
    """Turn a published checkpoint into an Ommatidia folder; every tensor of it is accounted for."""
    from ommatidia.lab.saved.exchange import import_folder

    result = import_folder(path, out, encoders=encoders, changes=changes or [], pickles=pickles)
    result.show()


def export(
    folder: Annotated[Path, typer.Argument(help="a saved model folder")],
    out: Annotated[Path, typer.Argument(help="the folder to write")],
) -> None:
    """Write a folder for transformers: stock classes for LLaVA designs, AutoModel for others."""
    from ommatidia.lab.saved.exchange import export_folder

    result = export_folder(folder, out)
    result.show()


def chat(
    checkpoint: Annotated[Path, typer.Argument(help="a saved model folder")],
    question: Annotated[str | None, typer.Argument(help="one question; without it, a dialogue")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="an image; may be repeated")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    device: str = "cpu",
) -> None:
    """Ask a model about an image, or talk with it."""
    from ommatidia.lab.saved.talk import Talk

    talk = Talk.open(checkpoint, image or [], max_new_tokens=max_new_tokens, temperature=temperature, device=device)
    if question is not None:
        answer = talk.ask(question)
        console().say(answer)
        console().result({"question": question, "images": [str(path) for path in image or []], "answer": answer})
        return
    console().log("An empty line or Ctrl-D ends the dialogue.")
    while line := _prompt():
        console().say(talk.ask(line))


def _prompt() -> str:
    try:
        return console().err.input("[bold]you:[/] ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""
