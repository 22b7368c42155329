"""A saved model inside lm-evaluation-harness: what its language model can do with words alone, before and after.

lm-eval is an optional extra, imported when it is used. Prompts go to the language model as the task writes them, with
no chat format: what papers do for base models (NVLM compares a model with the language model it started from).
Shapes: B batch, T text tokens, E language-model width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ommatidia.core.command_result import CommandResult
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.eval.statistics import compare
from ommatidia.eval.statistics.interval import t_quantile
from ommatidia.lab.saved.lmms import cut
from ommatidia.models.pretrained import load

MOST = 256
"""Tokens to generate where a task says nothing, as the harness has it."""
_KNOWN = frozenset({"until", "max_gen_toks", "do_sample", "temperature"})


class Words:
    """The language model of a saved folder: likelihoods of continuations, and greedy continuations."""

    def __init__(self, folder: Path, *, batch: int = 8, device: str = "cpu") -> None:
        self.model, processor = load(folder, device=device)
        self.tokenizer, self.context = processor.tokenizer, processor.context
        self.batch, self.device = batch, device
        first = self.tokenizer.eos_id
        self.first = self.tokenizer.pad_id if first is None else first
        """Stands before a text that nothing comes before."""
        self.shortened = 0
        """Prompts that were longer than the context and lost their beginning."""

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Both as tokens; spaces at the end of the context belong to the continuation, as the harness splits them."""
        bare = context.rstrip()
        continuation = context[len(bare) :] + continuation
        before = self.tokenizer.encode(bare, special=False) if bare else [self.first]
        whole = self.tokenizer.encode(bare + continuation, special=False)
        behind = whole[len(before) :] if bare else whole
        return list(before), list(behind)

    def likelihoods(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """For each the sum of the continuation's log-probabilities, and whether greedy decoding would say it."""
        found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda n: -len(pairs[n][0]) - len(pairs[n][1]))
        for start in range(0, len(order), self.batch):
            group = order[start : start + self.batch]
            for n, outcome in zip(group, self._scored([pairs[n] for n in group]), strict=True):
                found[n] = outcome
        return found

    @torch.inference_mode()
    def _scored(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[tuple[float, bool]]:
        rows = [(before + behind)[-self.context - 1 :] for before, behind in pairs]
        self.shortened += sum(len(before) + len(behind) > self.context + 1 for before, behind in pairs)
        ids_BT, mask_BT = self._padded([row[:-1] for row in rows], left=False)
        h_BTE = self.model.language(self.model.language.embed(ids_BT), mask_BT)
        for h_TE, row, (_, behind) in zip(h_BTE, rows, pairs, strict=True):
            if len(behind) > len(row) - 1:
                raise ConfigError(f"a continuation of {len(behind)} tokens; the context holds {self.context}")
            said_TV = self.model.language.head(h_TE[len(row) - 1 - len(behind) : len(row) - 1]).float().log_softmax(-1)
            wanted_T = torch.tensor(behind, device=said_TV.device)
            score = said_TV.gather(-1, wanted_T[:, None]).sum()
            yield float(score), bool((said_TV.argmax(-1) == wanted_T).all())

    def rolling(self, text: str) -> float:
        """The log-probability of a whole text, in windows as long as the context holds."""
        ids = list(self.tokenizer.encode(text, special=False))
        windows = [ids[start : start + self.context] for start in range(0, len(ids), self.context)]
        before = [self.first, *(window[-1] for window in windows[:-1])]
        return sum(score for score, _ in self.likelihoods([([b], w) for b, w in zip(before, windows, strict=True)]))

    @torch.inference_mode()
    def generate(self, context: str, *, most: int) -> str:
        """Greedy. A prompt that leaves no room for ``most`` tokens is answered in what is left, but at least in half of
        the context: a longer one loses its beginning."""
        ids = list(self.tokenizer.encode(context, special=False)) or [self.first]
        most = min(most, max(self.context - len(ids), self.context // 2))
        self.shortened += len(ids) + most > self.context
        ids = ids[most - self.context :]
        ids_BT, mask_BT = self._padded([ids], left=True)
        end = self.tokenizer.eos_id
        (row,) = self.model.language.decoder.generate(
            inputs_embeds=self.model.language.embed(ids_BT), attention_mask=mask_BT.long(), max_new_tokens=most,
            do_sample=False, eos_token_id=end, pad_token_id=self.tokenizer.pad_id, use_cache=True,
        ).tolist()  # fmt: skip
        return self.tokenizer.decode(row[: row.index(end)] if end in row else row)

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
        longest = max(map(len, rows))
        ids_BT = torch.full((len(rows), longest), self.tokenizer.pad_id)
        mask_BT = torch.zeros_like(ids_BT, dtype=torch.bool)
        for n, row in enumerate(rows):
            span = slice(longest - len(row), longest) if left else slice(0, len(row))
            ids_BT[n, span], mask_BT[n, span] = torch.tensor(row), True
        return ids_BT.to(self.device), mask_BT.to(self.device)


@cache
def model_class() -> type:
    """The class that lm-eval asks. Raises ConfigError where lm-eval is not installed."""
    try:
        from lm_eval.api.model import LM
    except ImportError:
        raise ConfigError("this needs the package lm-eval: pip install 'ommatidia[text]'") from None

    class OmmatidiaWords(LM):
        """``Words`` as the harness calls it."""

        def __init__(self, words: Words) -> None:
            super().__init__()
            self.words = words

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            return self.words.likelihoods([self.words.pair(*request.args) for request in requests])

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return [self.words.rolling(request.args[0]) for request in requests]

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return [self._said(*request.args) for request in requests]

        def _said(self, context: str, how: Mapping[str, Any]) -> str:
            if strange := sorted(set(how) - _KNOWN):
                raise ConfigError(f"generation setting {strange[0]!r} is not known here; {', '.join(sorted(_KNOWN))}")
            if how.get("do_sample") and float(how.get("temperature") or 0.0) > 0:
                raise ConfigError("a task that samples; only greedy decoding is offered here")
            stops = how.get("until") or ()
            text = self.words.generate(context, most=int(how.get("max_gen_toks") or MOST))
            return cut(text, (stops,) if isinstance(stops, str) else tuple(stops))

    return OmmatidiaWords


def compare_words(
    after: Path,
    before: Path | None,
    tasks: Sequence[str],
    *,
    include: Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    run_code: bool = False,
    batch: int = 8,
    device: str = "cpu",
) -> CommandResult:
    """The harness's tasks for one saved model, and for the one it came from: what training on images cost.

    ``include`` is a folder of task files. Tasks that run code which the model wrote (HumanEval, MBPP) are refused by
    the harness unless ``run_code``. Raises ConfigError; RunError where it lacks data, a metric or that consent.
    """
    adapter = model_class()
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    known = TaskManager(include_path=None if include is None else str(include))
    if strange := [task for task in tasks if not known.match_tasks([task])]:
        raise ConfigError(f"--tasks: lm-eval knows no task {strange[0]!r}; its files may need --include FOLDER")
    found: dict[str, Any] = {}
    lines = []
    for folder in dict.fromkeys(path for path in (after, before) if path is not None):
        words = Words(folder, batch=batch, device=device)
        try:
            found[str(folder)] = simple_evaluate(
                model=adapter(words), tasks=list(tasks), task_manager=known,
                limit=limit, num_fewshot=shots, confirm_run_unsafe_code=run_code, log_samples=True, bootstrap_iters=0,
            )  # fmt: skip
        except (ImportError, OSError, ValueError) as error:  # how it says that data, a metric or a consent is missing
            said = " ".join(str(error).split()) or type(error).__name__
            raise RunError(f"--tasks {','.join(tasks)}: lm-eval cannot run them: {said}") from error
        if words.shortened:
            lines.append(
                f"{folder}: {words.shortened} prompts were longer than its context of {words.context} tokens and lost "
                "their beginning"
            )
    told = _told(found[str(after)], None if before is None else found[str(before)], after, before)
    told.lines = lines
    told.data["notes"] = lines
    return told


def _told(after: Mapping[str, Any], before: Mapping[str, Any] | None, folder: Path, base: Path | None) -> CommandResult:
    told = CommandResult(data={"after": str(folder), "before": None if base is None else str(base), "scores": {}})
    rows = []
    for task, figures in after["results"].items():
        for name, value in figures.items():
            metric, _, how = name.partition(",")
            if not isinstance(value, int | float) or metric.endswith("_stderr") or not how:
                continue
            was = None if before is None else float(before["results"][task][name])
            lost = None if before is None else _difference(after, before, task, metric, how)
            count = after.get("n-samples", {}).get(task, {}).get("effective", "")
            told.data["scores"][f"{task}/{name}"] = {"after": value, "before": was, "difference": lost, "n": count}
            words = "-" if lost is None else f"{lost[0]:+.3f} [{lost[1]:+.3f}, {lost[2]:+.3f}]"
            rows.append([task, f"{metric} ({how})", count, f"{value:.3f}", "-" if was is None else f"{was:.3f}", words])
    columns = ("task", "metric", "n", "after", "before", "difference, 95 %")
    told.tables = [("words alone, through lm-eval", columns, rows)]
    return told


def _difference(
    after: Mapping[str, Any], before: Mapping[str, Any], task: str, metric: str, how: str
) -> tuple[float, float, float] | None:
    """After less before with its 95 % interval (paired by question); None for a group or another metric.

    The interval is that of ``statistics.compare`` where both lie from 0 to 1; other figures, such as a perplexity, have
    no bounds, so of them equal differences alone tell nothing: None.
    """

    def by_question(result: Mapping[str, Any]) -> dict[Any, float]:
        listed = [one for one in result.get("samples", {}).get(task, ()) if one.get("filter", how) == how]
        return {one["doc_id"]: float(one[metric]) for one in listed if isinstance(one.get(metric), int | float)}

    new, old = by_question(after), by_question(before)
    if len(new) < 2 or set(new) != set(old):
        return None
    left, right = ([one[name] for name in new] for one in (new, old))
    if all(0.0 <= value <= 1.0 for value in (*left, *right)):
        interval = compare(left, right).interval()
        return interval.mean, interval.low, interval.high
    values = [after - before for after, before in zip(left, right, strict=True)]
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    reach = -t_quantile(0.025, len(values) - 1) * spread
    return (mean, mean - reach, mean + reach) if spread > 0 else None
