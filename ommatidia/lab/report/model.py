"""The value a report is drawn from: plain dataclasses, filled from the store and rendered by the other files.

Scores, averages, gains and differences are fractions (0.712 is shown as 71.2 %); costs are FLOPs, seconds and counts.
A number that is not known is None, never NaN and never zero: the renderers show a dash and call the row incomplete.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ommatidia.core.errors import RunError
from ommatidia.eval.statistics import macro_mean

Outcome = Literal["best", "ahead", "tie", "behind"]
"""``best``: the design the others are compared with. ``tie``: the comparison cannot tell the two apart."""

OUTCOME_WORDS: dict[Outcome, str] = {"best": "best", "ahead": "ahead", "tie": "cannot tell apart", "behind": "behind"}


RoundWord = Literal["choice", "kept", "lead", "not shown", "stopped early", "undecided", "ended"]
"""What a greedy round came to, as ``lab.search.rounds`` says."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % interval, as fractions; ``low`` and ``high`` are None when no interval could be computed.

    Raises RunError when a value is not finite or the bounds are given by halves or the wrong way round.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.mean, self.low or 0.0, self.high or 0.0)):
            raise RunError(f"an Interval needs finite numbers, got {self}; a score that is missing is None")
        if (self.low is None) != (self.high is None):
            raise RunError(f"an Interval has both bounds or none, got {self}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise RunError(f"an Interval's low bound lies above its high bound: {self}")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both bounds, or None when there is no interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Curve:
    """The training loss of one stage of one run: equally long steps and losses (mean per supervised token)."""

    stage: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a design compares with the best one: a paired comparison over the same questions.

    ``difference`` is this design minus the best, as a fraction, and ``p`` the p-value, both adjusted for all pairs of
    the table. ``equal_within``: of a tie, the smallest margin within which the two are shown to be equal. ``text``
    replaces the outcome's standard words.
    """

    outcome: Outcome
    difference: Interval | None = None
    p: float | None = None
    text: str = ""
    equal_within: float | None = None

    @property
    def words(self) -> str:
        """What the tables say."""
        margin = "" if self.equal_within is None else f", equal within {100 * self.equal_within:.1f}"
        return self.text or OUTCOME_WORDS[self.outcome] + margin


@dataclass(frozen=True, slots=True)
class DesignRow:
    """One design: what it is, what it scored, what it cost, and the command that makes it again.

    ``scores`` and ``blind`` are by benchmark name, ``seed_averages`` and ``curves`` by seed. ``blind`` is what the same
    trained model scores with the image taken away. ``flops_per_sample`` is inference on one question.
    """

    key: str
    name: str
    encoders: tuple[str, ...] = ()
    fusion: str = "none"
    final: bool = False
    is_blind_model: bool = False
    seeds: tuple[int, ...] = ()
    average: Interval | None = None
    scores: dict[str, Interval] = field(default_factory=dict)
    blind: dict[str, float] = field(default_factory=dict)
    seed_averages: dict[int, float] = field(default_factory=dict)
    curves: dict[int, tuple[Curve, ...]] = field(default_factory=dict)
    versus_best: Verdict | None = None
    visual_tokens: int | None = None
    """Of one image: of the largest where the tiling lets the number depend on the size."""
    parameters: int | None = None
    trained_parameters: int | None = None
    train_flops: float | None = None
    flops_per_sample: float | None = None
    train_seconds: float | None = None
    command: str = ""
    checkpoint: str | None = None
    failed: str | None = None

    def blind_average(self, benchmarks: tuple[BenchmarkInfo, ...]) -> float | None:
        """The no-image score over ``benchmarks``, averaged as designs are ranked; None when one of them was not run
        without the image."""
        if not benchmarks or any(b.name not in self.blind for b in benchmarks):
            return None
        return macro_mean({b.name: self.blind[b.name] for b in benchmarks}, {b.name: b.group for b in benchmarks})


@dataclass(frozen=True, slots=True)
class BenchmarkInfo:
    """One benchmark: ``n`` questions, the scorer's name, and what guessing gets (majority or chance), if known."""

    name: str
    group: str
    n: int
    scorer: str
    guess: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One expert that a greedy round tried to add.

    ``average`` is that of its exploring run. ``gain`` over the round's base and the one-sided ``p`` of it come from all
    ``runs`` that the decision used, and are adjusted for all additions of the round.
    """

    expert: str
    average: Interval | None
    gain: Interval | None = None
    kept: bool = False
    runs: int = 1
    p: float | None = None


@dataclass(frozen=True, slots=True)
class GreedyLook:
    """The best addition of a round after some fresh seeds.

    It is kept where ``p`` is below ``error``; an error of 0 marks a look that only said what to train again. ``runs``
    of the addition and ``base_runs`` of the base count the exploring run.
    """

    expert: str
    gain: float
    p: float
    error: float
    runs: int
    base_runs: int


@dataclass(frozen=True, slots=True)
class GreedyRound:
    """One round: the base set, its average, what was tried on top, and the decision as a sentence and as a word."""

    number: int
    base: tuple[str, ...]
    base_average: Interval | None
    tried: tuple[Candidate, ...]
    decision: str = ""
    word: RoundWord = "kept"
    looks: tuple[GreedyLook, ...] = ()
    confidence: float = 0.9
    """Of the intervals of the gains."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """The mean gain of adding one expert, over ``pairs`` of designs that differ by it alone; also by group."""

    expert: str
    gain: Interval
    groups: dict[str, Interval]
    pairs: int


@dataclass(frozen=True, slots=True)
class Reply:
    """One design's answer to one question."""

    text: str
    correct: bool


@dataclass(frozen=True, slots=True)
class ExampleCard:
    """One question with its image (PNG bytes, or None for text only) and every design's reply, by design name."""

    benchmark: str
    question: str
    reference: str
    image: bytes | None
    answers: dict[str, Reply]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where the numbers come from. ``store``: its base name. ``flops_without_sharing``: as if no design shared work."""

    recipe: str
    command: str
    date: str
    version: str
    commits: tuple[str, ...] = ()
    python: str = ""
    torch: str = ""
    cpu: str = ""
    processors: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    """Name and version of each library that changes numbers; a name twice where nodes were made with two versions."""
    store: str = ""
    seeds: tuple[int, ...] = ()
    nodes_executed: int | None = None
    nodes_reused: int | None = None
    flops_spent: float | None = None
    flops_without_sharing: float | None = None
    node_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One benchmark in every condition (``figures.asked.CONDITIONS``), and what seeing is worth: with less without."""

    benchmark: str
    scores: dict[str, Interval]
    gain: Interval
    guess: float | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """Whether one trained design needs its images; the benchmark that needs them least comes first."""

    design: str
    seed: int
    rows: tuple[AuditRow, ...]


@dataclass(frozen=True, slots=True)
class AblationRow:
    """What is left without some experts, what is lost, and what share of the whole that is (None: nothing to share)."""

    experts: tuple[str, ...]
    left: Interval
    lost: Interval
    utilisation: Interval | None = None

    @property
    def taken(self) -> str:
        return " + ".join(self.experts)


@dataclass(frozen=True, slots=True)
class AblationSuite:
    """One benchmark, or the average that ranks designs. ``gap``: the largest utilisation of one expert less the
    smallest."""

    name: str
    whole: Interval
    rows: tuple[AblationRow, ...]
    gap: Interval | None = None


@dataclass(frozen=True, slots=True)
class Ablation:
    """One trained mixture with its experts taken away by one treatment."""

    design: str
    seed: int
    treatment: str
    experts: tuple[str, ...]
    suites: tuple[AblationSuite, ...]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How benchmarks go together over ``designs`` designs that see.

    ``correlation`` has a row a benchmark, ``places`` its entries in two principal components, ``explained`` their
    shares of the variance. ``constant``: benchmarks left out, which score all designs alike. ``groups``: a
    sentence on how many groups there are and how stable they are.
    """

    benchmarks: tuple[str, ...]
    designs: int
    correlation: tuple[tuple[float, ...], ...]
    places: tuple[tuple[float, ...], ...]
    explained: tuple[float, ...]
    constant: tuple[str, ...] = ()
    groups: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page. ``headline``: sentences, the verdict first. ``stop_reason``: why the search ended.

    ``notes``: what has changed since the results were made. They are of the day a page is drawn and not among its
    results, so report.json leaves them out.
    """

    title: str
    headline: tuple[str, ...]
    benchmarks: tuple[BenchmarkInfo, ...]
    designs: tuple[DesignRow, ...]
    manifest: Manifest
    vocabulary: tuple[str, ...] = ()
    """What the numbers of the ranking are about, a sentence each."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rounds: tuple[GreedyRound, ...] = ()
    stop_reason: str = ""
    contributions: tuple[Contribution, ...] = ()
    examples: tuple[ExampleCard, ...] = ()
    audit: Audit | None = None
    ablations: tuple[Ablation, ...] = ()
    likeness: Likeness | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """Benchmark groups in the order of their first benchmark."""
        return tuple(dict.fromkeys(b.group for b in self.benchmarks))
