"""The step: golden losses, exact accumulation, frozen is bit-identical, what is refused before a weight moves."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import threading

import pytest
import torch
import train_toy
from torch import nn
from train_toy import Toy, batches, example, stage, trainer

from ommatidia.core.errors import RunError
from ommatidia.core.types import IGNORE_LABEL
from ommatidia.train.interrupt import StoppedError
from ommatidia.train.metrics import LossCurve, loss_curve, read_metrics
from ommatidia.train.optim import schedule
from ommatidia.train.ranks import step_seed

GOLDEN = [
    2.353962,
    2.417366,
    2.453559,
    2.331197,
    2.324658,
    2.222727,
    2.224656,
    2.241917,
    2.040136,
    2.006003,
    2.079076,
    2.078624,
    1.857695,
    1.996364,
    1.97906,
    1.978695,
    1.9737,
    1.855456,
    1.98497,
    1.991611,
]


def weights(model):
    return copy.deepcopy(model.state_dict())


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_golden_losses(tmp_path):
    """Twenty steps on the CPU. They change when a computation changes, in that change's own commit, with its reason."""
    value = stage(steps=20, train={"projector": 2e-2, "encoders.*:neck": 1e-2, "language": 2e-2})
    assert loss_curve(trainer(Toy(), tmp_path, value).fit().metrics).loss == pytest.approx(GOLDEN, abs=1e-5)


def test_the_held_out_loss_is_the_mean_over_supervised_tokens(tmp_path):
    held_out = [[example(50), example(54), example(53)], [example(51)]]
    validation = {"data": {"sources": {"words": {"source": "train_toy_words"}}}, "samples": 4, "every": 1}
    model = Toy()
    run = trainer(model, tmp_path, stage(steps=2, validation=validation), held_out=lambda: iter(held_out))
    told = read_metrics(run.fit().metrics)[-1].validation
    model.eval()
    with torch.no_grad():
        sums, counts = zip(*(model.loss(train_toy.collate(examples)) for examples in held_out), strict=True)
    assert told == pytest.approx(float(sum(sums)) / sum(counts), rel=1e-5)


def test_the_loss_is_the_mean_over_supervised_tokens_of_the_whole_batch(tmp_path):
    model, value = Toy(), stage(micro_batch=2)
    examples = next(batches(0))
    run = trainer(model, tmp_path, value)
    with torch.no_grad():
        total, count = model.loss(train_toy.collate(examples))
    report = run.step(examples)
    assert report.supervised == count == sum(map(model.targets, examples))
    assert report.loss == pytest.approx(float(total) / count, rel=1e-6)
    assert report.tokens == sum(e.ids.numel() for e in examples)


def test_accumulation_is_exact(tmp_path):
    results = {}
    for micro in (1, 2, 4, 8):
        model = Toy()
        run = trainer(model, tmp_path / str(micro), stage(micro_batch=micro))
        norms = [run.step(examples).norm for examples in (next(batches(0)), next(batches(1)))]
        results[micro] = (norms, run.result())
    norms, state = results.pop(8)
    for other_norms, other in results.values():
        assert other_norms == pytest.approx(norms, rel=1e-5)
        for name in state:
            torch.testing.assert_close(other[name], state[name], rtol=1e-5, atol=1e-6)


def test_one_step_is_adamw_by_hand(tmp_path):
    model, reference = Toy(), Toy()
    value = stage(steps=1, warmup=0.0, weight_decay=0.1, clip=0.05)
    examples = next(batches(0))
    trainer(model, tmp_path, value).step(examples)
    reference.encoder.eval()
    total, count = reference.loss(train_toy.collate(examples))
    (total / count).backward()
    trains = [*reference.projector.named_parameters(), *reference.language.named_parameters()]
    norm = math.sqrt(sum(float(p.grad.square().sum()) for _, p in trains))
    for module, rate in ((reference.projector, 1e-2), (reference.language, 3e-3)):
        for parameter in module.parameters():
            gradient = parameter.grad * min(1.0, 0.05 / (norm + 1e-6))
            decayed = parameter.data * (1 - rate * (0.1 if parameter.ndim > 1 else 0.0))
            parameter.data = decayed - rate * gradient / (gradient.abs() + 1e-8)
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6)


def test_frozen_is_bit_identical_and_gradients_pass_through(tmp_path):
    model = Toy(dropout=0.5)
    before = weights(model)
    trainer(model, tmp_path, stage(train={"encoders.*:neck": 1e-2}, weight_decay=0.5)).fit()
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed == {f"encoder.neck.{n}" for n in ("0.weight", "0.bias", "1.weight", "1.bias")}


def test_trained_batch_norm_statistics_move_and_are_kept(tmp_path):
    model, other = Toy(), Toy()
    run = trainer(model, tmp_path, stage(train={"encoders.toy:trunk": 1e-2}))
    run.fit()
    assert int(model.encoder.trunk[1].num_batches_tracked) == 12
    assert torch.equal(run.result()["encoders.toy:trunk.1.running_mean"], model.encoder.trunk[1].running_mean)
    assert not torch.equal(model.encoder.trunk[1].running_mean, other.encoder.trunk[1].running_mean)


def test_micro_batches_that_change_batch_norm_are_announced(tmp_path, capfd):
    trainer(Toy(), tmp_path, stage(steps=1, micro_batch=4, train={"encoders.toy": 1e-2})).fit()
    assert "encoders.toy trains batch-norm layers" in " ".join(capfd.readouterr().err.split())


def test_what_trains_is_printed_first(tmp_path, capfd):
    trainer(Toy(), tmp_path, stage(steps=1)).fit()
    said = capfd.readouterr().err
    assert "stage toy: 1 steps of 8" in said
    assert "; trains projector (" in said
    assert "; frozen: encoders" in said


def test_dropout_is_a_function_of_the_step_and_the_callers_generator_is_left_alone(tmp_path):
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model = Toy(dropout=0.5)
        run = trainer(model, tmp_path / str(noise))
        expected = torch.random.get_rng_state()
        run.fit()
        assert torch.equal(torch.random.get_rng_state(), expected)
        states.append(weights(model))
    assert equal(*states)
    other = Toy(dropout=0.5)
    trainer(other, tmp_path / "other", seed=4).fit()
    assert not equal(states[0], other.state_dict())
    assert len({step_seed(seed, step) for seed in range(10) for step in range(100)}) == 1000


def test_rates_follow_the_schedule(tmp_path):
    value = stage(schedule="linear")
    trainer(Toy(), tmp_path, value).fit()
    for report in read_metrics(tmp_path / "metrics.jsonl"):
        factor = schedule(report.step - 1, total=12, warmup=0.25, shape="linear")
        assert report.rates == {"projector": 1e-2 * factor, "language": 3e-3 * factor}


def test_metrics_and_report(tmp_path):
    report = trainer(Toy(), tmp_path).fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert all(0 <= line["wait"] <= line["seconds"] and line["norm"] > 0 for line in lines)
    assert (report.steps, report.resumed, report.loss) == (12, 0, lines[-1]["loss"])
    assert (report.tokens, report.supervised) == (sum(r["tokens"] for r in lines), sum(r["supervised"] for r in lines))
    curve = loss_curve(report.metrics)
    assert isinstance(curve, LossCurve)
    assert curve.loss.tolist() == [line["loss"] for line in lines]


def test_bf16_keeps_float32_weights_and_learns(tmp_path):
    model = Toy()
    value = stage(precision="bf16", steps=20, train={"projector": 2e-2, "encoders.*:neck": 1e-2, "language": 2e-2})
    losses = loss_curve(trainer(model, tmp_path, value).fit().metrics).loss
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses == pytest.approx(GOLDEN, abs=0.05)
    assert losses != pytest.approx(GOLDEN, abs=1e-5)


def silent(examples):
    return [example(int(e.id.split("/")[1]), supervised=False) for e in examples]


@pytest.mark.parametrize(
    ("bad", "said"), [(0, "teaches nothing: no token of the first batch"), (2, "no token of this batch")]
)
def test_zero_supervised_tokens_are_refused(tmp_path, bad, said):
    def some(start):
        for step, examples in enumerate(batches(start), start):
            yield silent(examples) if step == bad else examples

    model = Toy()
    with pytest.raises(
        RunError, match=f"step {bad + 1} of 12.*{said} is supervised; samples 'toy/{bad * 8}', .*'toy/{bad * 8 + 7}'"
    ):
        trainer(model, tmp_path, batches=some).fit()
    assert bad or equal(Toy().state_dict(), model.state_dict())


def test_a_label_on_the_first_position_alone_is_no_supervision(tmp_path):
    e = example(0)
    e.labels[:] = IGNORE_LABEL
    e.labels[0] = 1
    with pytest.raises(RunError, match="supervised"):
        trainer(Toy(), tmp_path, stage(batch=1)).step([e])


class Bomb(Toy):
    """Gives ``value`` as the loss of the micro-batch that holds ``sample``."""

    def __init__(self, sample, value):
        super().__init__()
        self.sample, self.value = sample, value

    def loss(self, batch):
        total, count = super().loss(batch)
        return (total * self.value if self.sample in batch.sample_ids else total), count


@pytest.mark.parametrize(("value", "name"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_non_finite_loss_stops_before_the_optimiser_step(tmp_path, value, name):
    model = Bomb("toy/19", value)
    run = trainer(model, tmp_path, stage(micro_batch=2, save_every=1))
    with pytest.raises(RunError, match=f"step 3 of 12: the loss is {name}, .*; samples .*'toy/19'"):
        run.fit()
    clean = Toy()
    straight = trainer(clean, tmp_path / "clean", stage(micro_batch=2))
    for step in range(2):
        straight.step(next(batches(step)))
    assert equal(clean.state_dict(), model.state_dict())
    assert [r.step for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_non_finite_gradient_stops_before_the_optimiser_step(tmp_path):
    model = Toy()
    model.language.head.weight.register_hook(lambda g: g * float("nan"))
    with pytest.raises(RunError, match="step 1 of 12: the gradient norm is nan"):
        trainer(model, tmp_path).fit()
    assert equal(Toy().state_dict(), model.state_dict())


def test_a_model_that_counts_otherwise_is_refused(tmp_path):
    class Miscounting(Toy):
        def loss(self, batch):
            total, count = super().loss(batch)
            return total, count + 1

    with pytest.raises(RunError, match=r"the model scored \d+ positions, \d+ are labelled"):
        trainer(Miscounting(), tmp_path).fit()


def test_micro_batches_that_reach_nothing_trained_are_fine(tmp_path):
    class TextOnly(Toy):
        """Even samples see no image: the encoder and the projector do not run for them."""

        def loss(self, batch):
            if int(batch.sample_ids[0].split("/")[1]) % 2:
                return super().loss(batch)
            logits = self.language.head(self.language.embedding(batch.ids_BT[:, :-1])).flatten(0, 1)
            wanted = batch.labels_BT[:, 1:].flatten()
            total = nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORE_LABEL, reduction="sum")
            return total, int((wanted != IGNORE_LABEL).sum())

    model = TextOnly()
    trainer(model, tmp_path, stage(micro_batch=1, train={"projector": 1e-2})).fit()
    assert not torch.equal(model.projector[0].weight, Toy().projector[0].weight)

    def even(start):
        for examples in batches(start):
            yield [example(2 * position) for position, _ in enumerate(examples)]

    alone = TextOnly()
    trainer(alone, tmp_path / "alone", stage(micro_batch=1, train={"projector": 1e-2}), batches=even).fit()
    assert equal(alone.state_dict(), Toy().state_dict())


def test_data_that_ends_early_and_short_batches_are_refused(tmp_path):
    with pytest.raises(RunError, match="step 3 of 12: the data ended"):
        trainer(Toy(), tmp_path, batches=lambda start: iter([next(batches(s)) for s in range(start, 2)])).fit()
    with pytest.raises(RunError, match="got 4 samples, the stage's batch is 8"):
        trainer(Toy(), tmp_path).step(next(batches(0))[:4])


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, StoppedError)])
def test_a_signal_saves_and_stops_and_the_run_goes_on(tmp_path, number, error):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def interrupted(start):
        for step, examples in enumerate(batches(start), start):
            if step == 4:
                os.kill(os.getpid(), number)
            yield examples

    with pytest.raises(error, match=rf"step 6 of 12: stopped by {number.name}; saved in .*step-00000005"):
        trainer(Toy(dropout=0.3), tmp_path, batches=interrupted).fit()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    model, straight = Toy(dropout=0.3), Toy(dropout=0.3)
    assert trainer(model, tmp_path).fit().resumed == 5
    trainer(straight, tmp_path / "straight").fit()
    assert equal(model.state_dict(), straight.state_dict())


def test_another_thread_installs_no_handlers(tmp_path):
    seen = []

    def watching(start):
        seen.append(signal.getsignal(signal.SIGTERM))
        yield from batches(start)

    thread = threading.Thread(target=lambda: seen.append(trainer(Toy(), tmp_path, batches=watching).fit()))
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert seen[0] == before
    assert seen[1].steps == 12
