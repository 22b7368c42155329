"""A mixture compressed into one encoder: what trains, what it is measured by, and what of it reaches the model."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lab_toys import FINE, VIT, mixture, recipe, recipe_data
from safetensors.torch import load_file
from torch import nn

from ommatidia.core.console import Console, use
from ommatidia.core.errors import ConfigError
from ommatidia.lab.nodes.store import Store
from ommatidia.lab.nodes.training import TrainingJob
from ommatidia.lab.price.cost import sample_tokens, training_price
from ommatidia.lab.recipe import Recipe
from ommatidia.lab.run.execute import execute
from ommatidia.lab.run.plan import Plan, plan_trial
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.pretrained import save
from ommatidia.models.processor import Processor
from ommatidia.train.distill import Distillation, Distiller, Moments, Standard
from ommatidia.train.freeze import freeze, select
from ommatidia.train.metrics import read_metrics

PLAIN = {name: value for name, value in VIT.items() if name != "neck"}
TEACHERS = {"wide": {**PLAIN, "image_size": 64}, "flat": {**FINE, "neck": {"kind": "none"}}}


def distilling(*, steps: int = 3, **changes: Any) -> Recipe:
    data = recipe_data("vit")
    stage = {
        "name": "distil",
        "train": {"encoders.vit": 3e-3, "distillation": 3e-3},
        "data": mixture("attributes"),
        "distill": {"student": "vit", "teachers": TEACHERS, "statistics": 8, **changes},
        "steps": steps,
        "batch": 6,
        "micro_batch": 3,
    }
    data["stages"].insert(2, stage)
    return Recipe.parse(data)


def distiller(config: Distillation, model: MLLMConfig) -> tuple[Distiller, Any]:
    made = config.build(build_model(model, seed=0), model, seed=0)
    samples = [distilling().stages[2].data.open().draw(place, seed=0) for place in range(6)]
    processor = Processor(config.seeing(model))
    return made, processor.collate([processor(sample) for sample in samples])


def stage_of(one: Recipe) -> Any:
    return next(stage for stage in one.stages if stage.distill is not None)


def test_a_distilling_stage_runs_resumes_and_leaves_the_student_in_the_model(tmp_path: Path) -> None:
    one, store = distilling(), Store(tmp_path)
    plan = Plan.of([one])
    with use(Console(quiet=True)), store.writing():
        result = execute(plan, store)
    assert result.failed == {}
    (job,) = [job for job in plan.jobs.values() if isinstance(job, TrainingJob) and job.stage.distill]
    left = load_file(job.folder(store) / "trained.safetensors")
    assert {name.partition(":")[0] for name in left} == {"encoders.vit"}, "the heads have done their work"
    (tune,) = [job for job in plan_trial(one).training if job.stage.name == "tune"]
    model = tune.weights.build(store)
    for name, tensor in left.items():
        part, _, parameter = name.partition(":")
        if part == "encoders.vit":
            assert torch.equal(dict(model.encoders["vit"].named_parameters())[parameter], tensor)
    assert not any("distill" in name for name in model.state_dict())


CRAFT = {"kind": "craft", "image_size": 64}
"""A teacher with batch norms."""


@pytest.mark.parametrize("pattern", ["*", "?*", "*:*", "[edt]*"])
def test_no_glob_reaches_a_teacher(pattern: str) -> None:
    data = distilling(teachers={"reader": CRAFT}).to_dict()
    data["stages"][2]["train"] = {pattern: 1e-2}
    one = Recipe.parse(data)
    made, batch = distiller(stage_of(one).distill, one.model)
    before = copy.deepcopy(made.teachers.state_dict())
    trained = select(made.parts(), {pattern: 1e-2})
    freeze(made.parts(), trained)
    assert {name.partition(":")[0] for name in (*trained.rates, *trained.buffers)} == {"encoders.vit", "distillation"}
    made.loss(batch)[0].backward()
    assert all(parameter.grad is None for parameter in made.teachers.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.teachers.state_dict().items())


@pytest.mark.parametrize("pattern", ["teachers", "teachers:reader.*", "teach*", "teachers:*"])
def test_a_pattern_that_names_the_teachers_is_refused(pattern: str) -> None:
    made, _ = distiller(stage_of(distilling()).distill, distilling().model)
    with pytest.raises(
        ConfigError, match=rf"{re.escape(repr(pattern))}: teachers cannot train, by what the stage means"
    ):
        select(made.parts(), {"encoders.vit": 1e-2, pattern: 1e-2})
    data = distilling().to_dict()
    data["stages"][2]["train"] = {"encoders.vit": 1e-2, pattern: 1e-2}
    with pytest.raises(ConfigError, match=rf"stage 'distil': train pattern {re.escape(repr(pattern))}: unknown part"):
        Plan.of([Recipe.parse(data)])


def test_the_student_learns_and_the_teachers_stay() -> None:
    config, model = stage_of(distilling()).distill, distilling().model
    made, batch = distiller(config, model)
    made.measure([batch])
    before = copy.deepcopy(made.teachers.state_dict())
    first, count = made.loss(batch)
    assert (
        count == 6 == sum(made.targets(example) for example in [Processor(config.seeing(model))(s) for s in samples()])
    )
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], 3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        made.loss(batch)[0].backward()
        optimizer.step()
    assert float(made.loss(batch)[0].detach()) < 0.7 * float(first.detach())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.teachers.state_dict().items())


def samples() -> list[Any]:
    return [distilling().stages[2].data.open().draw(place, seed=0) for place in range(6)]


def test_a_perfect_student_loses_nothing_and_weights_weigh() -> None:
    config = stage_of(distilling()).distill
    made, batch = distiller(config, distilling().model)
    y_KHWD = torch.randn(3, 4, 4, 8)
    assert float(made._feature_loss(y_KHWD, y_KHWD)) == pytest.approx(0, abs=1e-5)
    opposite = float(made._feature_loss(-y_KHWD, y_KHWD))
    smooth = nn.functional.smooth_l1_loss(-y_KHWD, y_KHWD, reduction="none").mean((1, 2, 3)).sum()
    assert opposite == pytest.approx(0.9 * 2 * 3 + 0.1 * float(smooth), rel=1e-5)
    parts = []
    for weights in ({"wide": 1, "flat": 0}, {"wide": 0, "flat": 1}, {"wide": 1, "flat": 1}):
        one = stage_of(distilling(features=weights, summaries=weights)).distill
        parts.append(float(distiller(one, distilling().model)[0].loss(batch)[0]))
    assert parts[2] == pytest.approx(parts[0] + parts[1], rel=1e-4)


def test_phi_s_gives_every_channel_variance_one_and_keeps_distances() -> None:
    x_ND = torch.randn(4000, 12, dtype=torch.float64) @ torch.diag(torch.logspace(-2, 1, 12, dtype=torch.float64)) + 3
    moments, scale = Moments(), Standard(12)
    for part in x_ND.split(1000):
        moments.add(part)
    scale.fit(moments, rotate=True)
    y_ND = scale(x_ND.float())
    torch.testing.assert_close(y_ND.var(0, correction=0), torch.ones(12), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(y_ND.mean(0), torch.zeros(12), rtol=0, atol=1e-3)
    ratio = torch.cdist(y_ND[:50], y_ND[:50]) / torch.cdist(x_ND[:50].float(), x_ND[:50].float()).clamp(min=1e-9)
    pairs = ratio[~torch.eye(50, dtype=torch.bool)]
    assert float(pairs.std() / pairs.mean()) < 1e-3, "one scale and a rotation"


def test_the_price_is_three_students_and_one_of_each_teacher() -> None:
    one = distilling()
    stage, model = stage_of(one), one.model
    price = training_price(model, stage, frozenset(), sample_tokens(stage.data, model), samples=10)
    learning, teaching = stage.distill.cost(model)
    made, _ = distiller(stage.distill, model)
    assert learning.parameters == sum(p.numel() for p in [*made.student.parameters(), *made.heads.parameters()])
    assert teaching.parameters == sum(p.numel() for p in made.teachers.parameters())
    assert price.flops == pytest.approx(10 * (3 * learning.flops + teaching.flops))


def test_a_saved_mixture_teaches(tmp_path: Path) -> None:
    found = recipe("coarse", "fine")
    trained = build_model(found.model, seed=3)
    save(trained, found.model, tmp_path / "found")
    one = distilling(teachers={}, teacher_model=str(tmp_path / "found"))
    made, batch = distiller(stage_of(one).distill, one.model)
    theirs = trained.encoders["fine"].state_dict()
    assert all(torch.equal(made.teachers["fine"].encoder.state_dict()[name], t) for name, t in theirs.items())
    assert float(made.loss(batch)[0]) > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": "vti"}, "did you mean 'vit'"),
        ({"teachers": {}}, "exactly one of teachers and teacher_model"),
        ({"features": {"wyde": 1.0}}, "did you mean 'wide'"),
        ({"student": "wide"}, "the name of a teacher too"),
    ],
)
def test_what_cannot_teach_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Plan.of([distilling(**changes)])


def test_the_run_is_logged_per_view(tmp_path: Path) -> None:
    one, store = distilling(steps=2), Store(tmp_path)
    plan = Plan.of([one])
    (job,) = [job for job in plan.jobs.values() if isinstance(job, TrainingJob) and job.stage.distill]
    with use(Console(quiet=True)), store.writing():
        execute(plan, store)
    assert [report.supervised for report in read_metrics(job.folder(store) / "metrics.jsonl")] == [6, 6]
