"""Questions that ground truth can answer without doubt, proposed from annotated images. Pure functions.

Nothing here is random but the choice of absent objects and of false numbers, which a seed and the file's name decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import Literal

import numpy as np
from pydantic import Field

from ommatidia.core.config import Config
from ommatidia.eval.cv_bench.annotations import Box, Scene, Thing

Task = Literal["Relation", "Count", "Depth", "Distance"]


class Clarity(Config):
    """How clear an answer must be. Lengths in the plane are shares of the image, in space metres."""

    smallest: float = Field(default=0.01, ge=0, lt=1)
    """Share of the image that an object's box must cover."""
    gap: float = Field(default=0.02, ge=0, lt=1)
    """What must lie between two boxes, as a share of the image's side, to say that one is left of another."""
    offset: float = Field(default=0.3, ge=0)
    """How much nearer, in metres, the nearer object's farthest corner must be than the other's nearest."""
    overlap: float = Field(default=0.3, ge=0, le=1)
    """Share of the smaller of two marked boxes that the other may cover."""
    most: int = Field(default=10, ge=1)
    """Objects of one kind that a person still counts alike."""
    options: int = Field(default=5, ge=2)
    """Numbers to choose from, one after another, the true one among them."""
    absent: int = Field(default=1, ge=0)
    """Questions an image about something that is not there."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A question before its options are put in order."""

    task: Task
    scene: Scene
    right: str
    wrong: tuple[str, ...]
    about: tuple[str, ...]
    """The kinds of objects asked about: target and anchor, the one counted, or the candidates."""
    anchor: str = ""
    boxes: dict[str, Box] = field(default_factory=dict)
    """What is marked in the image, by kind; empty where words are enough."""

    @property
    def label(self) -> str:
        """What is balanced: the answer in the plane; in space every answer is as likely as the other."""
        return self.right if self.task in ("Relation", "Count") else ""


def relations(scene: Scene, clarity: Clarity) -> Iterator[Proposal]:
    """Where one object lies as seen from another, for kinds that the image holds exactly once."""
    single = [things[0] for things in _by_name(scene).values() if len(things) == 1 and _plain(things, scene, clarity)]
    height, width = scene.size
    for target, anchor in permutations(single, 2):
        sides = (
            ("left", "right", (anchor.box[0] - target.box[2]) / width, (target.box[0] - anchor.box[2]) / width),
            ("above", "below", (anchor.box[1] - target.box[3]) / height, (target.box[1] - anchor.box[3]) / height),
        )
        for before, behind, first, second in sides:
            if max(first, second) > clarity.gap:
                right, wrong = (before, behind) if first > second else (behind, before)
                yield Proposal("Relation", scene, right, (wrong,), (target.name, anchor.name))


def counts(scene: Scene, clarity: Clarity, *, kinds: Sequence[str] = (), seed: int = 0) -> Iterator[Proposal]:
    """How many objects of a kind there are; of ``kinds``, some that are not there at all."""
    rng = np.random.default_rng(_seed(scene, seed))
    there = _by_name(scene)
    for name, things in there.items():
        if len(things) <= clarity.most and _plain(things, scene, clarity):
            yield _count(scene, name, len(things), clarity, rng)
    missing = [name for name in kinds if name not in there]
    for index in rng.permutation(len(missing))[: clarity.absent]:
        yield _count(scene, missing[int(index)], 0, clarity, rng)


def _count(scene: Scene, name: str, truth: int, clarity: Clarity, rng: np.random.Generator) -> Proposal:
    """False numbers are neighbours of the true one, which stands anywhere among them."""
    first = int(rng.integers(max(0, truth - clarity.options + 1), truth + 1))
    wrong = tuple(str(n) for n in range(first, first + clarity.options) if n != truth)
    return Proposal("Count", scene, str(truth), wrong, (name,))


def depth_orders(scene: Scene, clarity: Clarity) -> Iterator[Proposal]:
    """Which of two objects is nearer to the camera: its farthest corner must be nearer than the other's nearest."""
    for a, b in combinations(_solid(scene, clarity), 2):
        if a.name == b.name or _covered(a.box, b.box) > clarity.overlap:
            continue
        for near, far in ((a, b), (b, a)):
            origin = np.zeros((1, 3))
            if _reach(near, origin)[1] + clarity.offset < _reach(far, origin)[0]:
                yield Proposal("Depth", scene, near.name, (far.name,), (a.name, b.name), boxes=_boxes(a, b))


def distances(scene: Scene, clarity: Clarity) -> Iterator[Proposal]:
    """Which of two objects is nearer to a third, from corner to corner of their boxes in space."""
    solid = _solid(scene, clarity)
    for anchor in solid:
        corners = np.asarray(anchor.corners)
        for a, b in combinations([thing for thing in solid if thing is not anchor], 2):
            if len({anchor.name, a.name, b.name}) < 3:
                continue
            if max(_covered(x.box, y.box) for x, y in combinations((anchor, a, b), 2)) > clarity.overlap:
                continue
            for near, far in ((a, b), (b, a)):
                if _reach(near, corners)[1] + clarity.offset < _reach(far, corners)[0]:
                    boxes = _boxes(anchor, a, b)
                    yield Proposal("Distance", scene, near.name, (far.name,), (a.name, b.name), anchor.name, boxes)


def _by_name(scene: Scene) -> dict[str, list[Thing]]:
    found: dict[str, list[Thing]] = {}
    for thing in scene.things:
        found.setdefault(thing.name, []).append(thing)
    return found


def _plain(things: Iterable[Thing], scene: Scene, clarity: Clarity) -> bool:
    """Whether every one of them is a single object that nobody overlooks."""
    return all(t.seen and not t.crowd and _share(t, scene) >= clarity.smallest for t in things)


def _share(thing: Thing, scene: Scene) -> float:
    left, top, right, bottom = thing.box
    return max(right - left, 0.0) * max(bottom - top, 0.0) / (scene.size[0] * scene.size[1])


def _solid(scene: Scene, clarity: Clarity) -> list[Thing]:
    return [t for t in scene.things if len(t.corners) == 8 and _plain([t], scene, clarity)]


def _reach(thing: Thing, points_N3: np.ndarray) -> tuple[float, float]:
    """The nearest and the farthest distance from its corners to these points."""
    lengths_8N = np.linalg.norm(np.asarray(thing.corners)[:, None] - points_N3[None], axis=-1)
    return float(lengths_8N.min()), float(lengths_8N.max())


def _covered(a: Box, b: Box) -> float:
    """The share of the smaller box that both have in common."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0.0) * max(height, 0.0) / smaller if smaller > 0 else 1.0


def _boxes(*things: Thing) -> dict[str, Box]:
    return {thing.name: thing.box for thing in things}


def _seed(scene: Scene, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{scene.file.name}".encode()).digest()[:7], "big")
