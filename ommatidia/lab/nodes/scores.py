"""Scores of finished answers: read as they are written, and made again only when that is asked for.

A finished node keeps the scores it was made with. Scores made again lie in ``store/scores/<key>/``, and the record of
the search that asked for them names the document.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping

from ommatidia.core.config import digest
from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError, DamagedError, DataError, RunError
from ommatidia.eval.answers import read_answers
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.judge import EndpointJudge
from ommatidia.eval.rescore import score_file
from ommatidia.eval.scored import Scored
from ommatidia.eval.scoring.judged import JudgedScorer
from ommatidia.lab.nodes.store import Store

ANSWERS, SCORES, REPLIES = "answers.jsonl", "scores.json", "answers.judge*.jsonl"


def scorer_of(benchmark: BenchmarkConfig) -> tuple[str, int]:
    """Kind and version of the scorer that a benchmark's config names; empty and 0 where it is known when opened."""
    scorer = getattr(benchmark, "scorer", None)
    return ("", 0) if scorer is None else (scorer.kind_name(), int(scorer.version))


def judge_of(benchmark: BenchmarkConfig) -> EndpointJudge | None:
    """The judge that the environment names, where the benchmark asks one."""
    judged = isinstance(getattr(benchmark, "scorer", None), JudgedScorer)
    return EndpointJudge.from_environment() if judged else None


def read_scores(store: Store, kind: str, key: str, scores: Mapping[str, str]) -> Scored:
    """A finished node's scores, or those that ``scores`` names in their place. Raises DamagedError."""
    again = scores.get(key)
    path = store.root / again if again is not None else store.file(kind, key, SCORES)
    try:
        written = store.read_json(again) if again is not None else json.loads(path.read_text(encoding="utf-8"))
        return Scored.from_dict(written["scored"])
    except (RunError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"{path}: not what an evaluation writes: {error}", reason=f"{path.name} is damaged"
        ) from None


def read_texts(store: Store, kind: str, key: str) -> dict[str, str]:
    """What the model said, by sample id. Raises DamagedError."""
    return {sample: one.answer or "" for sample, one in read_answers(store.file(kind, key, ANSWERS)).items()}


def score_again(benchmark: BenchmarkConfig, store: Store, kind: str, key: str) -> str | None:
    """Score finished answers with today's scorer and judge; the store's document that holds the scores.

    None where the node's own scores are today's. Needs the data and no model. Raises RunError where the data are gone
    or other questions are asked now.
    """
    try:
        fingerprint, judge = benchmark.fingerprint(), judge_of(benchmark)
        kept = json.loads(store.file(kind, key, SCORES).read_text(encoding="utf-8"))
        other = judge is not None and not kept["scored"]["judge"].startswith(judge.name)
        if kept["fingerprint"] == fingerprint and not other:
            return None
        name = digest([fingerprint, judge.name if judge else ""])[:16]
        document = f"scores/{key}/{name}.json"
        if _readable(store, document):
            return document
        answers = store.file(kind, key, ANSWERS)
        if judge is not None:  # its replies are kept beside the answers, and a finished node stays as it is
            again = store.root / "scores" / key
            again.mkdir(parents=True, exist_ok=True)
            for file in (answers, *answers.parent.glob(REPLIES)):
                if not (again / file.name).is_file():
                    shutil.copyfile(file, again / file.name)
            answers = again / ANSWERS
        scored = score_file(benchmark.open(), answers, judge=judge)
    except (DataError, ConfigError, OSError) as error:
        raise RunError(f"scoring again needs the data of {benchmark.name!r}: {error}") from error
    store.write_json(document, {"fingerprint": fingerprint, "scored": scored.to_dict()})
    before = kept["scored"]
    was = f"{before['scorer']} version {before['scorer_version']}" + (f", {before['judge']}" * bool(before["judge"]))
    now = f"{scored.scorer} version {scored.scorer_version}" + (f", {scored.judge}" * bool(scored.judge))
    console().log(f"{benchmark.name}: answers {key[:12]} scored again ({was}; now {now})")
    return document


def _readable(store: Store, document: str) -> bool:
    """Whether scores that were made again are there, undamaged."""
    with contextlib.suppress(RunError):
        return "scored" in store.read_json(document)
    return False


def scores_of_today(answers: Iterable[tuple[BenchmarkConfig, str, str]], store: Store) -> dict[str, str]:
    """Documents of today's scores by key, for (benchmark, kind, key) of finished answers whose own scores are older."""
    found = {}
    for benchmark, kind, key in answers:
        if store.exists(kind, key) and (document := score_again(benchmark, store, kind, key)) is not None:
            found[key] = document
    return found
