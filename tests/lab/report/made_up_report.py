"""A made-up but realistic report: 25 designs, 6 benchmarks in 3 groups, 4 greedy rounds, 6 examples."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import random

from PIL import Image, ImageDraw

from ommatidia.lab.report.model import (
    BenchmarkInfo,
    Candidate,
    Contribution,
    Curve,
    DesignRow,
    ExampleCard,
    GreedyLook,
    GreedyRound,
    Interval,
    Manifest,
    Reply,
    Report,
    Verdict,
)

BENCHMARKS = (
    BenchmarkInfo("easy_vqa", "general", 400, "exact", 0.27),
    BenchmarkInfo("scenes_yes_no", "general", 300, "yes_no", 0.5),
    BenchmarkInfo("drawn_words", "ocr_chart", 300, "anls", 0.02),
    BenchmarkInfo("bar_charts", "ocr_chart", 250, "relaxed", 0.11),
    BenchmarkInfo("counting", "vision_centric", 250, "exact", 0.2),
    BenchmarkInfo("nearer_of_two", "vision_centric", 200, "option", 0.5),
)
EXPERTS = {  # mean skill by group, tokens, parameters, forward FLOPs
    "efficientnet_lite0@128": ({"general": 0.66, "ocr_chart": 0.36, "vision_centric": 0.58}, 16, 3.4e6, 0.25e9),
    "efficientnet_lite2@224": ({"general": 0.70, "ocr_chart": 0.41, "vision_centric": 0.60}, 49, 4.9e6, 1.8e9),
    "craft": ({"general": 0.55, "ocr_chart": 0.55, "vision_centric": 0.56}, 64, 20.8e6, 26e9),
    "crnn_reader": ({"general": 0.48, "ocr_chart": 0.53, "vision_centric": 0.47}, 32, 3.8e6, 1.1e9),
    "patch_stem_14": ({"general": 0.52, "ocr_chart": 0.38, "vision_centric": 0.52}, 81, 0.9e6, 0.2e9),
}
FUSED = ("efficientnet_lite2@224", "craft", "crnn_reader")


def picture(number: int) -> bytes:
    """A small drawn scene as PNG bytes."""
    rng = random.Random(number)
    image = Image.new("RGB", (160, 120 + 20 * (number % 3)), (245, 244, 240))
    draw = ImageDraw.Draw(image)
    for _ in range(5):
        x, y, size = rng.randrange(120), rng.randrange(90), rng.randrange(18, 46)
        colour = tuple(rng.randrange(30, 230) for _ in range(3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + size, y + size), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def curves(rng: random.Random, encoders: tuple[str, ...], skill: float) -> tuple[Curve, ...]:
    """Pre-alignment of each expert (the same whoever uses it) and one joint stage."""

    def curve(stage: str, noise: random.Random, steps: int, end: float) -> Curve:
        at = tuple(range(0, steps, 4))
        losses = tuple(end + 6.5 * math.exp(-s / (steps * 0.11)) + abs(noise.gauss(0, 0.05)) for s in at)
        return Curve(stage, at, losses)

    aligned = tuple(curve(f"pre-alignment {e}", random.Random(e), 600, 0.9 + len(e) / 40) for e in encoders[:2])
    return (*aligned, curve("fine-tuning", rng, 1200, 1.5 - skill))


def design(encoders: tuple[str, ...], fusion: str, *, final: bool, seeds: tuple[int, ...]) -> DesignRow:
    """A design whose scores follow from its experts' skills."""
    name = " + ".join(encoders) + (f" · {fusion}" if len(encoders) > 1 else "") if encoders else "language model alone"
    rng = random.Random(name)
    scores, blind = {}, {}
    for b in BENCHMARKS:
        skills = sorted((EXPERTS[e][0][b.group] for e in encoders), reverse=True)
        level = sum(s * w for s, w in zip(skills, (1, 0.09, 0.03, 0.01))) if skills else (b.guess or 0) + 0.04
        level = min(level + rng.gauss(0, 0.012) + (0.01 if fusion == "sequence_append" else 0), 0.97)
        half = 1.96 * math.sqrt(level * (1 - level) / b.n) / math.sqrt(len(seeds))
        scores[b.name] = Interval(level, level - half, level + half)
        blind[b.name] = (b.guess or 0) + abs(rng.gauss(0, 0.02))
    mean = sum(s.mean for s in scores.values()) / len(scores)
    half = 0.021 / math.sqrt(len(seeds))
    size = sum(EXPERTS[e][2] for e in encoders)
    forward = sum(EXPERTS[e][3] for e in encoders)
    tokens = (
        sum(EXPERTS[e][1] for e in encoders)
        if fusion == "sequence_append"
        else max([0, *(EXPERTS[e][1] for e in encoders)])
    )
    return DesignRow(
        key=f"{abs(rng.getrandbits(256)):064x}",
        name=name,
        encoders=encoders,
        fusion=fusion,
        final=final,
        is_blind_model=not encoders,
        seeds=seeds,
        average=Interval(mean, mean - half, mean + half),
        scores=scores,
        blind=blind if encoders else {},
        seed_averages={s: mean + rng.gauss(0, 0.005) for s in seeds},
        curves={s: curves(random.Random(f"{name}{s}"), encoders, mean) for s in seeds},
        visual_tokens=tokens,
        parameters=int(134.5e6 + size),
        trained_parameters=int(1.2e6 + 0.1 * size),
        train_flops=(forward + 2 * 135e6 * (tokens + 24)) * 3 * 24_000,
        flops_per_sample=forward + 2 * 135e6 * (tokens + 24),
        train_seconds=14 + (forward / 1e9 + tokens) * 1.1,
        command=f"omma run quickstart --set 'model.encoders={','.join(encoders) or 'none'}' --set fusion={fusion}",
        checkpoint=f"checkpoints/{abs(rng.getrandbits(32)):08x}" if final else None,
    )


def designs() -> tuple[DesignRow, ...]:
    """Text-only, singles, pairs and triples of two fusions; the best few with two seeds; one that failed."""
    sets = [(), *((e,) for e in EXPERTS), *itertools.combinations(EXPERTS, 2), *itertools.combinations(FUSED, 3)]
    made = []
    for encoders in sets:
        for fusion in ("channel_concat", "sequence_append") if len(encoders) > 1 else ("none",):
            made.append(design(tuple(encoders), fusion, final=False, seeds=(0,)))
    made = made[:24]
    leading = sorted(made, key=lambda d: -d.average.mean)[:4]
    keep = {d.name for d in leading} | {"efficientnet_lite2@224", "language model alone"}
    made = [design(d.encoders, d.fusion, final=d.name in keep, seeds=(0, 1) if d.name in keep else (0,)) for d in made]
    best = max((d for d in made if d.final), key=lambda d: d.average.mean)
    made = [_compared(d, best) for d in made]
    failed = DesignRow(
        key="f" * 64,
        name="sam_b@1024 + craft · channel_concat",
        encoders=("sam_b@1024", "craft"),
        fusion="channel_concat",
        seeds=(0,),
        failed="RunError: stage fine-tuning, step 812: the loss is not finite (nan); sample drawn_words/1183",
        command="omma run quickstart --set 'model.encoders=sam_b@1024,craft'",
    )
    return (*made, failed)


def _compared(row: DesignRow, best: DesignRow) -> DesignRow:
    if row.name == best.name:
        return dataclasses.replace(row, versus_best=Verdict("best"))
    gap = row.average.mean - best.average.mean
    half = 0.016 if row.final else 0.022
    p = min(1.0, math.exp(-((gap / half * 1.96) ** 2) / 1.7))
    outcome = "behind" if gap + half < 0 else "tie"
    return dataclasses.replace(row, versus_best=Verdict(outcome, Interval(gap, gap - half, gap + half), p))


def rounds(rows: tuple[DesignRow, ...]) -> tuple[GreedyRound, ...]:
    """Four rounds on the made-up scores: three keep an expert, the last one stops."""
    base: tuple[str, ...] = ()
    level, rng, made = 0.0, random.Random(5), []
    for number in range(1, 5):
        tried = []
        for place, expert in enumerate(e for e in EXPERTS if e not in base):
            mean = (
                (0.52 + 0.035 * rng.random() + 0.02 * place)
                if not base
                else level + rng.uniform(-0.022, 0.034 - 0.008 * number)
            )
            gain = Interval(mean - level, mean - level - 0.014, mean - level + 0.014) if base else None
            tried.append(Candidate(expert, Interval(mean, mean - 0.02, mean + 0.02), gain))
        best = max(range(len(tried)), key=lambda i: tried[i].average.mean)
        kept = number < 4
        before = Interval(level, level - 0.02, level + 0.02) if base else None
        if kept:
            chosen = tried[best]
            runs, p = (3, 0.02) if base else (1, None)
            tried[best] = Candidate(chosen.expert, chosen.average, chosen.gain, True, runs, p)
        decision = (
            f"keep {tried[best].expert}: {100 * tried[best].average.mean:.1f} %."
            if kept
            else f"the best, {tried[best].expert}, gains 0.3 points [-1.1, 1.7]: cannot tell apart from no gain."
        )
        best_gain = tried[best].gain
        looks = [] if best_gain is None else [GreedyLook(tried[best].expert, best_gain.mean, 0.08, 0.0, 1, 1)]
        looks += [
            dataclasses.replace(look, p=0.02 if kept else 0.3, error=0.0475, runs=3, base_runs=7) for look in looks
        ]
        word = "choice" if not base else "kept" if kept else "not shown"
        made.append(GreedyRound(number, base, before, tuple(tried), decision, word, tuple(looks), 0.905))
        if kept:
            base, level = (*base, tried[best].expert), tried[best].average.mean
    return tuple(made)


def contributions() -> tuple[Contribution, ...]:
    """One an expert; the last one does harm."""
    made = []
    for place, expert in enumerate(EXPERTS):
        rng = random.Random(expert)
        mean = 0.03 - 0.009 * place
        groups = {}
        for group in ("general", "ocr_chart", "vision_centric"):
            middle = mean + rng.gauss(0, 0.016)
            groups[group] = Interval(middle, middle - 0.017, middle + 0.017)
        made.append(Contribution(expert, Interval(mean, mean - 0.012, mean + 0.012), groups, 6 + place))
    return tuple(made)


QUESTIONS = (
    ("easy_vqa", "What color is the shape?", "teal"),
    ("scenes_yes_no", "Is there a rectangle in the image that is larger than the circle to its left?", "no"),
    ("drawn_words", "Which word is written in the image?", "harbour"),
    ("bar_charts", "What is the value of the highest bar?", "42"),
    ("counting", "How many circles are there?", "3"),
    ("nearer_of_two", "Which is nearer to the red box: A the circle, or B the square?", "B"),
)


def examples(rows: tuple[DesignRow, ...]) -> tuple[ExampleCard, ...]:
    """One a benchmark; every design that ran replies."""
    made = []
    for number, (benchmark, question, reference) in enumerate(QUESTIONS):
        rng = random.Random(number)
        answers = {}
        for d in rows:
            if d.failed is None:
                right = rng.random() < 0.6
                wrong = rng.choice(
                    ("red", "the harbor", "7", "I cannot see a shape in the image, but it may be blue.", "")
                )
                answers[d.name] = Reply(reference if right else wrong, right)
        made.append(ExampleCard(benchmark, question, reference, picture(number), answers))
    return tuple(made)


def made_up_report() -> Report:
    """The whole value."""
    rows = designs()
    best = next(d for d in rows if d.versus_best and d.versus_best.outcome == "best")
    return Report(
        title="Which vision experts should a small language model see with?",
        headline=(
            f"{best.name} is best: {100 * best.average.mean:.1f} % "
            f"[{100 * best.average.low:.1f}, {100 * best.average.high:.1f}]; 10.2 points above the best "
            "single expert (95 % interval 8.6 to 11.8, p < 0.001, 2 seeds).",
            "Three other designs cannot be told apart from it; the cheapest of them needs 0.4 times the training.",
            "Without the image the best design falls to 28.1 %: 37.3 points come from seeing.",
            "craft adds most (+3.0 points [1.8, 4.2] over 6 pairs), nearly all of it on ocr_chart.",
        ),
        warnings=(),
        benchmarks=BENCHMARKS,
        designs=rows,
        rounds=rounds(rows),
        stop_reason="no remaining expert improves the set by more than noise.",
        contributions=contributions(),
        examples=examples(rows),
        manifest=Manifest(
            recipe="quickstart",
            command="omma search quickstart --store runs/quickstart --budget 5min --seeds 0,1",
            date="2026-11-21 14:07 UTC",
            version="0.1.0",
            commits=("3f9c2ab41d07",),
            python="3.11.9",
            torch="2.11.0+cpu",
            cpu="AMD EPYC 7R13, 2 cores",
            store="quickstart",
            seeds=(0, 1),
            nodes_executed=118,
            nodes_reused=203,
            flops_spent=3.1e15,
            flops_without_sharing=1.02e16,
            node_seconds=287.0,
        ),
    )
