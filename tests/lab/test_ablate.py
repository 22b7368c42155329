"""Taking experts out of a mixture: exact on the features, refused where a fusion cannot, told with intervals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lab_toys import APPEND, COARSE, CONCAT, FINE, benchmark, recipe

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.types import Sample
from ommatidia.eval import Scored
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.prompts import exchange
from ommatidia.eval.scoring.score import Score
from ommatidia.eval.statistics import mean_interval
from ommatidia.eval.suites import attribute
from ommatidia.lab.analysis.ablate import ablate_checkpoint
from ommatidia.lab.nodes.treatment import AblatedModel, AblatedSet, read_treatments, subsets
from ommatidia.models.ablation import OtherPictures, ablated, check_without, mean_features, replaced, without, zeros
from ommatidia.models.build import build_model
from ommatidia.models.config import MLLMConfig
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.pretrained import save
from ommatidia.models.processor import Processor
from ommatidia.models.sharing import SharedFeatures


def mixture(fusion, **encoders) -> MLLMConfig:
    data = recipe("coarse", "fine").model.to_dict()
    return MLLMConfig.parse(data | {"encoders": encoders or {"coarse": COARSE, "fine": FINE}, "fusion": fusion})


def prompts(name: str = "attributes") -> list[Sample]:
    opened = BenchmarkConfig.parse(benchmark(name, "general")).open()
    return [opened.prompt(sample) for sample in opened.samples()]


@pytest.fixture(scope="module")
def concat():
    config = mixture(CONCAT)
    return build_model(config, seed=1).eval(), config, Processor(config)


def test_zeros_reach_the_fusion_and_end_with_the_context(concat):
    model, _, processor = concat
    batch = processor.collate([processor(s, answer=False) for s in prompts()[:3]])
    before, fusion = model(batch), model.fusion
    with ablated(model, {"fine": zeros}):
        seen = model.encode(batch)
        assert not seen["fine"].any()
        assert seen["coarse"].any()
        # What zero means, said by hand: the columns of the projector that read this expert see nothing.
        features = {"coarse": seen["coarse"], "fine": torch.zeros_like(seen["fine"])}
        torch.testing.assert_close(model.fusion(seen, batch.views).y_KHWD, fusion(features, batch.views).y_KHWD)
        assert not torch.equal(model(batch), before)
    assert model.fusion is fusion
    assert torch.equal(model(batch), before)


def test_the_context_ends_after_an_error_too(concat):
    model, _, _ = concat
    fusion = model.fusion
    with pytest.raises(RuntimeError), ablated(model, {"fine": zeros}):
        raise RuntimeError
    assert model.fusion is fusion
    with pytest.raises(ConfigError, match="did you mean 'fine'"), ablated(model, {"fin": zeros}):
        pass


def test_the_mean_is_that_of_all_views(concat):
    model, _, processor = concat
    asked = prompts()
    means = mean_features(model, SharedFeatures(model, processor, batch=5).inputs(asked))
    everything = model.encode(processor.collate([processor(s, answer=False) for s in asked]))
    torch.testing.assert_close(means["fine"], everything["fine"].mean(0))
    changed = replaced(means["fine"])(everything["fine"])
    assert changed.shape == everything["fine"].shape
    assert torch.equal(changed[0], changed[-1])


def test_shuffle_shows_one_expert_the_other_picture(concat):
    _, config, processor = concat
    asked = prompts()
    others = exchange({s.id: s.images for s in asked})
    shuffled = OtherPictures(config, ["fine"], others)
    for sample in asked[:4]:
        plain, found = processor(sample, answer=False), shuffled(sample, answer=False)
        stranger = next(s for s in asked if s.images and s.images[0].digest == others[sample.id][0].digest)
        assert torch.equal(found.ids, plain.ids)
        assert torch.equal(found.pixels["coarse"], plain.pixels["coarse"])
        assert torch.equal(found.pixels["fine"], processor(stranger, answer=False).pixels["fine"])
        assert not torch.equal(found.pixels["fine"], plain.pixels["fine"])


@pytest.mark.parametrize("fusion", [APPEND, {**APPEND, "kind": "interleave"}])
def test_removing_takes_the_tokens_out_of_the_sequence(fusion):
    config = mixture(fusion)
    model = build_model(config, seed=1).eval()
    small, smaller = without(model, config, ["fine"])
    assert (config.tokens_per_view, smaller.tokens_per_view) == (8, 4)
    assert list(small.encoders) == ["coarse"]
    assert small.language is model.language
    processors = Processor(config), Processor(smaller)
    batches = [p.collate([p(s, answer=False) for s in prompts()[:2]]) for p in processors]
    whole = model.fusion(model.encode(batches[0]), batches[0].views).y_KHWD
    left = small.fusion(small.encode(batches[1]), batches[1].views).y_KHWD
    # The tokens that stay are those that the whole mixture makes of this expert.
    own = whole[:, :2] if fusion["kind"] == "sequence_append" else whole[:, :, ::2]
    torch.testing.assert_close(left, own)
    assert small(batches[1]).isfinite().all()


def test_a_fusion_that_cannot_do_without_says_so(concat):
    model, config, _ = concat
    with pytest.raises(ConfigError, match=r"channel_concat cannot do without fine .*use zero, mean or shuffle"):
        without(model, config, ["fine"])
    with pytest.raises(ConfigError, match="no encoder would be left"):
        without(model, config, ["fine", "coarse"])


@pytest.mark.parametrize("fusion", [CONCAT, APPEND, {**APPEND, "kind": "interleave"}, {**CONCAT, "kind": "gated_sum"}])
@pytest.mark.parametrize("gone", [["fine"], ["coarse"], ["fine", "coarse"]])
def test_a_design_tells_what_its_model_can_do_without(fusion, gone):
    config = mixture(fusion)

    def outcome(asked: Callable[[], object]) -> str:
        try:
            asked()
        except ConfigError as error:
            return str(error)
        return ""

    assert outcome(lambda: check_without(config, gone)) == outcome(
        lambda: without(build_model(config, seed=1), config, gone)
    )


def scored(name: str, values: list[float], clusters: list[str] | None = None) -> Scored:
    made = [Score(str(i), v, clusters[i] if clusters else str(i)) for i, v in enumerate(values)]
    interval = mean_interval(values)
    return Scored(name, "general", "full", "", "exact", 1, tuple(made), tuple(made), interval)


def test_utilisation_and_gap_are_the_published_formulas():
    full = [scored("a", [1, 1, 1, 1, 0])]
    found = attribute(
        full,
        {"x": [scored("a", [1, 1, 0, 0, 0])], "y": [scored("a", [1, 1, 1, 1, 1])], "x + y": [scored("a", [0] * 5)]},
        experts=["x", "y"],
    )
    assert found.full.mean == pytest.approx(0.8)
    assert found.lost["x"].mean == pytest.approx(0.4)
    assert {name: u and u.mean for name, u in found.utilisation.items()} == pytest.approx(
        {"x": 0.5, "y": -0.25, "x + y": 1.0}
    )
    assert found.gap.mean == pytest.approx(0.75)
    assert found.utilisation["x + y"].high == 1.0  # nothing is left; what five answers cannot show stays below
    for each in (*found.utilisation.values(), found.gap):
        assert each.low <= each.mean <= each.high


def test_intervals_are_clustered_and_paired():
    values = [1.0, 0.0] * 50
    clustered = [str(i // 10) for i in range(100)]
    lone = attribute([scored("a", values)], {"x": [scored("a", [0.0] * 100)]}, experts=["x"])
    uneven = [float(i // 10 % 2) for i in range(100)]
    wide = attribute([scored("a", uneven, clustered)], {"x": [scored("a", [0.0] * 100, clustered)]}, experts=["x"])
    assert wide.lost["x"].high - wide.lost["x"].low > 2 * (lone.lost["x"].high - lone.lost["x"].low)
    same = attribute([scored("a", values)], {"x": [scored("a", values)]}, experts=["x"])
    # Noise of the samples is not counted as a loss: what is left is what a hundred equal answers may hide.
    assert same.lost["x"].high == -same.lost["x"].low == pytest.approx(1 - 0.025 ** (1 / 100))


def test_a_mixture_that_scores_nothing_has_no_shares():
    found = attribute([scored("a", [0, 0])], {"x": [scored("a", [0, 1])], "y": [scored("a", [0, 0])]}, experts="xy")
    assert found.utilisation == {"x": None, "y": None}
    assert found.gap is None
    with pytest.raises(RunError, match="cannot compare results of unlike samples"):
        attribute([scored("a", [0, 0])], {"x": [scored("a", [0])]}, experts=["x"])


def test_subsets_and_treatments():
    assert subsets("abc", most=2) == [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c")]
    assert read_treatments("zero, mean") == ("zero", "mean")
    with pytest.raises(ConfigError, match="did you mean 'shuffle'"):
        read_treatments("shufle")


def test_ablating_a_checkpoint_end_to_end(tmp_path: Path):
    config = mixture(APPEND)
    folder = save(build_model(config, seed=1), config, tmp_path / "model")
    chosen = [BenchmarkConfig.parse(benchmark(name, "general")) for name in ("attributes", "counts")]
    told = ablate_checkpoint(
        folder, chosen, out=tmp_path / "out", treatments=("zero", "mean", "shuffle", "remove"), batch=8
    )
    data = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert set(data["treatments"]) == {"zero", "mean", "shuffle", "remove"}
    assert set(data["treatments"]["zero"]) == {"attributes", "counts", "average"}
    assert set(data["treatments"]["zero"]["average"]["left"]) == {"coarse", "fine", "coarse + fine"}
    assert set(data["treatments"]["remove"]["average"]["left"]) == {"coarse", "fine"}
    assert len(told.tables) == 4
    assert (tmp_path / "out" / "ablation-mean.svg").read_text().startswith("<svg")
    # A second run asks nothing again, and another model is refused the same files.
    answers = (tmp_path / "out" / "attributes.zero-fine.jsonl").read_bytes()  # they hold the seconds they took
    again = ablate_checkpoint(folder, chosen[:1], out=tmp_path / "out", treatments=("zero",), most=1, batch=8)
    assert again.data["treatments"]["zero"]["attributes"]["full"] == data["treatments"]["zero"]["attributes"]["full"]
    assert (tmp_path / "out" / "attributes.zero-fine.jsonl").read_bytes() == answers
    other = save(build_model(config, seed=2), config, tmp_path / "other")
    with pytest.raises(RunError, match="holds answers of model"):
        ablate_checkpoint(other, chosen[:1], out=tmp_path / "out", batch=8)


@pytest.mark.parametrize("fusion", [CONCAT, APPEND], ids=["concat", "append"])
def test_each_trunk_looks_once_for_all_treatments(fusion):
    config = mixture(fusion)
    model, processor = build_model(config, seed=1).eval(), Processor(config)
    opened = BenchmarkConfig.parse(benchmark("attributes", "general")).open()
    asked, six = prompts(), Decoding(max_new_tokens=6)
    others = exchange({s.id: s.images for s in asked})
    whole = SharedFeatures(model, processor, batch=5)
    treated, plain = AblatedModel(opened, whole), dict[str, list[str]]()
    for treatment in ("zero", "mean", "shuffle", *(("remove",) if fusion is APPEND else ())):
        with treated.under(AblatedSet(treatment, ("fine",))) as shared:
            plain[treatment] = shared.answer(asked, six)
    assert whole.looked == len({s.images[0].digest for s in asked}) == 6
    # The same by hand, each image seen again for every question.
    for change in ("zero", "mean"):
        means = mean_features(model, [processor.collate([processor(s, answer=False) for s in asked])])
        with ablated(model, {"fine": zeros if change == "zero" else replaced(means["fine"])}):
            assert generate(model, processor, asked, six) == plain[change]
    assert generate(model, OtherPictures(config, ["fine"], others), asked, six) == plain["shuffle"]
    if "remove" in plain:
        small, smaller = without(model, config, ["fine"])
        assert generate(small, Processor(smaller), asked, six) == plain["remove"]
    assert len({tuple(answers) for answers in plain.values()}) > 1


def test_one_expert_is_no_mixture(tmp_path: Path):
    config = recipe("coarse").model
    folder = save(build_model(config, seed=1), config, tmp_path / "model")
    with pytest.raises(ConfigError, match="only experts inside a mixture"):
        ablate_checkpoint(folder, [], out=tmp_path / "out")
