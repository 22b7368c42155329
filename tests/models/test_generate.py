"""Generation: one by one, in a batch, with and without a cache are the same; it stops where the format says."""

from __future__ import annotations

import pytest
import torch
from model_toys import Colour, config, mixed_samples, parts_of, sample

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import ImagePart, Sample
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor

TEN = Decoding(max_new_tokens=10)


def naive(model: MLLM, processor: Processor, one: Sample, *, steps: int) -> list[int]:
    """Greedy ids from the whole sequence at every step: no cache, no batch, no stopping."""
    example = processor(one, answer=False)
    new: list[int] = []
    with torch.no_grad():
        for _ in range(steps):
            batch = processor.collate([example])
            h_BTE = model(batch)
            new.append(int(model.language.head(h_BTE[:, -1]).argmax()))
            example.ids = torch.cat([example.ids, torch.tensor(new[-1:])])
            example.labels = torch.cat([example.labels, torch.tensor([-100])])
            example.asked = torch.cat([example.asked, torch.tensor([False])])
            if example.sees is not None:
                example.sees = torch.cat([example.sees, example.sees[-1:]])
    return new


def until_end(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


@pytest.fixture(scope="module")
def built() -> tuple[MLLM, Processor]:
    """The first start whose answers differ between samples and have two tokens: another one would prove nothing."""
    for seed in range(20):
        model, processor = parts_of(config("a", "b"), seed=seed)
        said = [naive(model, processor, one, steps=10) for one in mixed_samples()]
        texts = {processor.tokenizer.decode(until_end(ids, processor.end_id)).strip() for ids in said}
        if len(texts) == len(said) and "" not in texts and all(len(set(ids)) > 1 for ids in said):
            return model, processor
    raise AssertionError("no start in twenty gives lively answers")


def test_a_batch_with_a_cache_says_what_one_by_one_without_says(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    samples = mixed_samples()
    expected = []
    for one in samples:
        ids = until_end(naive(model, processor, one, steps=10), processor.end_id)
        expected.append(processor.tokenizer.decode(ids).strip())
    assert generate(model, processor, samples, TEN) == expected
    assert generate(model, processor, samples, TEN, batch=3) == expected
    assert [generate(model, processor, [one], TEN)[0] for one in samples] == expected
    assert generate(model, processor, samples[::-1], TEN) == expected[::-1]


def test_it_stops_at_the_end_of_a_turn(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    for one in mixed_samples():
        said = naive(model, processor, one, steps=10)
        at = next(i for i, token in enumerate(said) if token != said[0])
        stopping = Processor(processor.config)
        stopping.end_id = said[at]
        assert generate(model, stopping, [one], TEN) == [processor.tokenizer.decode(said[:at]).strip()]


def test_it_says_no_more_than_allowed(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    one = mixed_samples()[1]
    said = until_end(naive(model, processor, one, steps=3), processor.end_id)
    assert generate(model, processor, [one], Decoding(max_new_tokens=3)) == [processor.tokenizer.decode(said).strip()]


def test_the_answer_is_no_part_of_the_prompt(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    asked, answered = (sample(ImagePart(0), "What?", answer=a, images=(Colour(9),)) for a in (None, "a long answer"))
    assert generate(model, processor, [asked], TEN) == generate(model, processor, [answered], TEN)


def test_sampling_depends_on_its_seed(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    samples = mixed_samples()
    said = [
        generate(model, processor, samples, Decoding(max_new_tokens=12, temperature=3.0, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert said[0] == said[1] != said[2]


def test_nothing_asked_is_nothing_said_and_errors_name_the_sample(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    assert generate(model, processor, [], TEN) == []
    with pytest.raises(DataError, match="sample 'far': a place for image 3"):
        generate(model, processor, [sample(ImagePart(3), name="far")], TEN)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        Decoding(max_new_tokens=0)
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        Decoding.parse({"temprature": 1})


def test_an_answer_ends_where_the_context_ends(built: tuple[MLLM, Processor]) -> None:
    model, processor = built
    samples = mixed_samples()
    longest = max(len(processor(one, answer=False).ids) for one in samples)
    short = Processor(processor.config)
    short.context, short.end_id = longest + 3, None
    assert generate(model, short, samples, Decoding(max_new_tokens=500), batch=99) == generate(
        model, short, samples, Decoding(max_new_tokens=3), batch=99
    )
    short.context = longest
    assert len(generate(model, short, samples, Decoding(max_new_tokens=500))) == len(samples)
