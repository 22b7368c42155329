"""Processor: visual tokens take exactly their places, labels cannot slip, and what cannot be used says why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_toys import PATCHES, Colour, config, mixed_samples, sample, save_tokenizer
from torch import Tensor

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, Example, ImagePart, Message, Sample
from ommatidia.models.language import CHAT_FORMATS
from ommatidia.models.processor import Processor

RED, BLUE = Colour(250), Colour(3, 90)


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor(config("a", "b"))


def supervised_text(processor: Processor, example: Example) -> str:
    return processor.tokenizer.inner.decode(example.ids[example.labels != IGNORE_LABEL].tolist())


def test_placeholders_are_tokens_per_view_times_views(processor: Processor) -> None:
    assert processor.tokens_per_view == 4
    for one, views in zip(mixed_samples(), (0, 1, 2, 1), strict=True):
        example = processor(one)
        assert len(example.views) == views
        assert int((example.ids == IMAGE_TOKEN_ID).sum()) == 4 * views
        assert len(example.ids) == len(example.labels)
        assert {name: tuple(p.shape) for name, p in example.pixels.items()} == (
            {"a": (views, 3, 32, 32), "b": (views, 3, 32, 32)} if views else {}
        )


def test_a_sample_becomes_exactly_these_ids() -> None:
    processor = Processor(config("a"))
    encode = processor.tokenizer.encode
    words = encode("\nWhat?", special=False)
    answer = [*encode("red", special=False), processor.tokenizer.id_of("<|end|>")]
    user, assistant = (processor.tokenizer.id_of(mark) for mark in ("<|user|>", "<|assistant|>"))
    prompt = [user, *[IMAGE_TOKEN_ID] * 4, *words, assistant]
    one = sample(ImagePart(0), "\nWhat?", answer="red", images=(RED,))
    assert processor(one).ids.tolist() == prompt + answer
    assert processor(one).labels.tolist() == [IGNORE_LABEL] * len(prompt) + answer
    assert processor(one, answer=False).ids.tolist() == prompt
    assert processor(one, answer=False).supervised == 0


@pytest.mark.parametrize("name", CHAT_FORMATS)
def test_labels_hold_the_answers_and_their_ends_in_every_format(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("language")
    tokens = save_tokenizer(folder)
    from transformers import LlamaConfig

    LlamaConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=tokens
    ).save_pretrained(folder)
    processor = Processor(config("a", chat=name, language={"kind": "hf", "path": str(folder)}))
    turns = (
        Message("user", (ImagePart(0), "\nWhat </s> colour?")),
        Message("assistant", ("It is <|end|> red",)),
        Message("user", ("Sure?",)),
        Message("assistant", ("Yes",)),
    )
    example = processor(Sample("s", turns, (RED,)))
    chat = processor.chat
    expected = "".join(f"{chat.answer_prefix}{text}{chat.end}" for text in ("It is <|end|> red", "Yes"))
    assert supervised_text(processor, example) == expected
    where = example.labels != IGNORE_LABEL
    assert torch.equal(example.labels[where], example.ids[where])


def test_pictures_are_prepared_in_reading_order_and_decoded_once() -> None:
    opened: list[str] = []

    class Watched(Colour):
        def open(self):  # type: ignore[no-untyped-def]
            opened.append(self.digest)
            return super().open()

    processor = Processor(config("a", "b"))
    one = sample(ImagePart(1), "and", ImagePart(0), images=(Watched(250), Watched(3)))
    example = processor(one)
    assert opened == ["colour-3-0", "colour-250-0"]
    prepare = processor.preprocess["a"]
    assert torch.equal(example.pixels["a"][0], prepare(Colour(3).open()))
    assert torch.equal(example.pixels["a"][1], prepare(Colour(250).open()))
    assert not torch.equal(example.pixels["a"][0], example.pixels["a"][1])


def test_tiles_of_a_picture_are_cut_from_one_decoding() -> None:
    opened: list[str] = []

    class Watched(Colour):
        def open(self):  # type: ignore[no-untyped-def]
            opened.append(self.digest)
            return super().open()

    tiling = {"kind": "fixed_grid", "rows": 1, "columns": 2, "tile": 32, "tags": "one_d"}
    processor = Processor(config("a", "b", tiling=tiling))
    example = processor(sample(ImagePart(0), "?", images=(Watched(250),)))
    assert opened == ["colour-250-0"]
    prepare = processor.preprocess["a"]
    left, right, overview = processor.config.tiling.cut(Colour(250).open())
    assert torch.equal(example.pixels["a"], torch.stack([prepare(left), prepare(right), prepare(overview)]))
    shared = config("a", encoders={"a": PATCHES, "again": PATCHES}, fusion="channel_concat", tiling=tiling)
    twice = Processor(shared)(sample(ImagePart(0), images=(RED,)))
    assert twice.pixels["a"] is twice.pixels["again"]
    long = refusal(processor, sample(*[ImagePart(0)] * 12, images=(RED,), name="many"))
    assert "256: 144 are visual, of 36 views" in str(long)


def test_stored_features_take_the_place_of_pixels() -> None:
    def look(digest: str) -> Tensor:
        return torch.full((1, 2, 2, 768), float(len(digest)), dtype=torch.float16)

    both = Processor(config("a", "b"), features={"a": look})
    example = both(sample(ImagePart(0), images=(RED,)))
    assert list(example.pixels) == ["b"]
    assert example.features["a"].shape == (1, 2, 2, 768)
    assert both.collate([example]).features["a"].dtype == torch.float32

    class Undecodable(Colour):
        def open(self):  # type: ignore[no-untyped-def]
            raise AssertionError("nothing needs its pixels")

    alone = Processor(config("a"), features={"a": look})
    assert alone(sample(ImagePart(0), images=(Undecodable(1),))).pixels == {}
    with pytest.raises(ConfigError, match=r"\['c'\], which are no encoders of this model"):
        Processor(config("a"), features={"c": look})


def test_without_encoders_pictures_take_no_place() -> None:
    example = Processor(config())(mixed_samples()[1])
    assert (example.views, example.pixels) == ((), {})
    assert IMAGE_TOKEN_ID not in example.ids


def refusal(processor: Processor, one: Sample) -> DataError:
    with pytest.raises(DataError) as error:
        processor(one)
    return error.value


def test_what_cannot_be_used_is_named(processor: Processor) -> None:
    long = refusal(processor, sample("word " * 400, name="long"))
    assert long.sample == "long"
    assert "tokens, but the context of the language model holds 256" in str(long)
    for index in (1, -1):
        missing = refusal(processor, sample(ImagePart(index), images=(RED,), name="gap"))
        assert str(missing) == f"sample 'gap': a place for image {index}, but the sample has 1"

    class Broken(Colour):
        def open(self):  # type: ignore[no-untyped-def]
            raise DataError("not an image")

    assert (
        str(refusal(processor, sample(ImagePart(0), images=(Broken(1),), name="bad"))) == "sample 'bad': not an image"
    )
    assert refusal(processor, Sample("none", ())).sample == "none"


def test_a_context_is_filled_to_its_last_place(processor: Processor) -> None:
    fixed = len(processor(sample("", answer="")).ids)
    room = 256 - fixed
    letter = next(c for c in "qxz" if len(processor.tokenizer.encode(c * room, special=False)) == room)
    assert len(processor(sample(letter * room, answer="")).ids) == 256
    assert "257 tokens" in str(refusal(processor, sample(letter * (room + 1), answer="")))


@pytest.mark.parametrize("left", [False, True])
def test_collate_pads_one_side_and_keeps_every_value(processor: Processor, left: bool) -> None:
    examples = [processor(one) for one in mixed_samples()]
    batch = processor.collate(examples, left=left)
    longest = max(len(e.ids) for e in examples)
    assert batch.ids_BT.shape == batch.labels_BT.shape == batch.mask_BT.shape == (4, longest)
    assert batch.sample_ids == ("words", "one", "two", "late")
    assert batch.views is not None
    assert len(batch.views) == 4
    for row, example in enumerate(examples):
        n = len(example.ids)
        span = slice(longest - n, None) if left else slice(0, n)
        assert torch.equal(batch.ids_BT[row, span], example.ids)
        assert torch.equal(batch.labels_BT[row, span], example.labels)
        assert torch.equal(batch.ids_BT[row][batch.mask_BT[row]], example.ids)
        assert (batch.labels_BT[row][~batch.mask_BT[row]] == IGNORE_LABEL).all()
        assert (batch.ids_BT[row][~batch.mask_BT[row]] == processor.tokenizer.pad_id).all()
    assert torch.equal(batch.pixels["b"], torch.cat([e.pixels["b"] for e in examples if e.views]))
    assert batch.supervised == sum(e.supervised for e in examples)
    assert processor.collate(examples[:1]).pixels == {}


def test_the_same_text_gives_the_same_ids_again_and_elsewhere(processor: Processor) -> None:
    first, again = (processor(sample("once more")).ids.tolist() for _ in range(2))
    assert first == again == Processor(config())(sample("once more")).ids.tolist()


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    rows = save_tokenizer(tmp_path)
    own = {"model_type": "llama", "vocab_size": rows // 2, "hidden_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "intermediate_size": 16, "pad_token_id": 0}
    foreign = config("a", language={"kind": "hf", "path": str(tmp_path), "config": own | heads})
    with pytest.raises(ConfigError, match=f"the language model has {rows // 2} embeddings"):
        Processor(foreign)(mixed_samples()[0])


def test_a_text_is_cut_behind_the_longest_and_only_there() -> None:
    cfg = config("a")
    one = sample(ImagePart(0), "What colour is it?", answer="red and blue and green", images=(Colour(9),))
    whole = Processor(cfg)(one)
    cut = Processor(cfg, longest=len(whole.ids) - 3)(one)
    assert torch.equal(cut.ids, whole.ids[:-3])
    assert torch.equal(cut.labels, whole.labels[:-3])
    assert cut.asked is not None
    assert len(cut.asked) == len(cut.ids)
    assert torch.equal(Processor(cfg, longest=len(whole.ids))(one).ids, whole.ids)
    prompt = Processor(cfg)(one, answer=False)
    assert torch.equal(Processor(cfg, longest=5)(one, answer=False).ids, prompt.ids), "questions are never cut"


def test_visual_tokens_are_never_cut() -> None:
    one = sample("Here: ", ImagePart(0), answer="red", images=(Colour(9),), name="seen")
    with pytest.raises(DataError, match=r"'seen'.*cut to 6, but . visual tokens stand behind"):
        Processor(config("a"), longest=6)(one)


def test_a_long_document_is_cut_before_the_first_picture_that_would_not_be_whole() -> None:
    document = Message("document", ("One.", ImagePart(0), "Two two.", ImagePart(1), "Three."))
    one = Sample("d", (document,), (RED, BLUE))
    whole = Processor(config("a"))(one)
    places = (whole.ids == IMAGE_TOKEN_ID).nonzero().flatten().tolist()
    first, second = places[0], places[4]
    assert places == [*range(first, first + 4), *range(second, second + 4)]
    kept = {first + 3: (first, 0), second - 1: (second - 1, 1), second + 3: (second, 1), second + 4: (second + 4, 2)}
    for longest, (tokens, pictures) in kept.items():
        cut = Processor(config("a"), longest=longest)(one)
        assert torch.equal(cut.ids, whole.ids[:tokens])
        assert torch.equal(cut.labels, whole.labels[:tokens])
        assert len(cut.views) == pictures
        assert [tuple(p.shape) for p in cut.pixels.values()] == ([(pictures, 3, 32, 32)] if pictures else [])
        assert torch.equal(cut.places, torch.arange(4 * pictures)) if pictures else cut.places is None
    started = Sample("s", (Message("document", (ImagePart(0), "Text.")),), (RED,))
    with pytest.raises(DataError, match="no text is left of a document"):
        Processor(config("a"), longest=3)(started)
