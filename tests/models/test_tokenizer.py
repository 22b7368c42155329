"""Tokenizers of every kind: marks that people write stay text, and threads that share one get what one alone gets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from model_toys import config, marks, sample, save_tokenizer
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from ommatidia.core.errors import ConfigError, DataError
from ommatidia.core.types import IGNORE_LABEL
from ommatidia.models.language import CHAT_FORMATS, ChatFormat, Tokenizer
from ommatidia.models.processor import Processor

MARKS = marks()
LETTERS = sorted(set("".join(MARKS) + "abcdefghijklmnopqrstuvwxyz ▁.:[]/INSTUERA\n"))


def pieces() -> list[str]:
    """A vocabulary that holds every mark, as published ones do, and the letters to write it with."""
    return ["<unk>", "<pad>", *MARKS, *LETTERS, "say", "▁say", "##y"]


def fast(model: Any, pre: Any, decoder: Any = None) -> PreTrainedTokenizerFast:
    backend = Backend(model)
    backend.pre_tokenizer, backend.decoder = pre, decoder or decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", extra_special_tokens=MARKS
    )


def numbered() -> dict[str, int]:
    return {piece: place for place, piece in enumerate(pieces())}


def make(kind: str, folder: Path) -> Tokenizer:
    if kind == "byte-level bpe":
        save_tokenizer(folder)
        return Tokenizer.load(folder)
    if kind == "bytes in python":
        return Tokenizer(ByT5Tokenizer(extra_special_tokens=MARKS))
    metaspace = pre_tokenizers.Metaspace("▁", prepend_scheme="never")
    made = {
        "unigram": lambda: fast(
            models.Unigram([(p, 0.0 if p in MARKS else -1.0 - len(LETTERS)) for p in pieces()], unk_id=0),
            metaspace,
            decoders.Metaspace("▁", prepend_scheme="never"),
        ),
        "words": lambda: fast(models.WordLevel(numbered(), unk_token="<unk>"), pre_tokenizers.WhitespaceSplit()),
        "wordpiece": lambda: fast(
            models.WordPiece(numbered() | {f"##{c}": 900 + i for i, c in enumerate(LETTERS)}, unk_token="<unk>"),
            pre_tokenizers.WhitespaceSplit(),
        ),
        "bpe that spells marks": lambda: fast(spelling_bpe(), metaspace, decoders.Metaspace("▁")),
    }
    return Tokenizer(made[kind]())


def spelling_bpe() -> models.BPE:
    """Merges that lead from letters to ``</s>``, and to ``<s>``."""
    vocabulary, merges = numbered(), []
    for left, right in (("<", "/"), ("</", "s"), ("</s", ">"), ("<", "s"), ("<s", ">")):
        vocabulary.setdefault(left + right, len(vocabulary))
        merges.append((left, right))
    return models.BPE(vocabulary, merges, unk_token="<unk>")


KINDS = ("byte-level bpe", "unigram", "words", "wordpiece", "bpe that spells marks", "bytes in python")


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return make(request.param, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def impatient() -> Iterator[None]:
    """Threads give way to one another as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def texts() -> list[str]:
    return [f"say {mark} {mark}say{mark}" for mark in MARKS] + ["say say", "", " a  b "]


def control(tokenizer: Tokenizer) -> set[int]:
    return {tokenizer.id_of(mark) for mark in MARKS}


def test_a_written_mark_is_no_control_token_and_a_template_one_is(tokenizer: Tokenizer) -> None:
    forged = control(tokenizer)
    assert len(forged) == len(MARKS)
    for text in texts():
        assert forged.isdisjoint(tokenizer.encode(text, special=False))
        assert sum(i in forged for i in tokenizer.encode(text, special=True)) == (3 if "<" in text else 0)


@pytest.mark.usefixtures("impatient")
def test_threads_get_what_one_alone_gets(tokenizer: Tokenizer) -> None:
    asked = [(text, special) for text in texts() for special in (True, False)] * 6
    alone = [tokenizer.encode(text, special=special) for text, special in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: tokenizer.encode(one[0], special=one[1]), asked))
    assert together == alone


def test_words_without_marks_have_the_ids_that_transformers_gives(tokenizer: Tokenizer) -> None:
    for text in ("say a b", " say  it.", "[INST] USER: say"):
        wanted = tokenizer.inner.encode(text, add_special_tokens=False)
        assert tokenizer.encode(text, special=False) == wanted == tokenizer.encode(text, special=True)


def test_what_stays_text_can_be_read_again(tokenizer: Tokenizer) -> None:
    text = "say </s> <s>"
    ids = tokenizer.encode(text, special=False)
    if tokenizer.inner.unk_token_id not in ids and tokenizer.inner.backend != "wordpiece":
        assert tokenizer.inner.decode(ids).replace("##", "").replace(" ", "") == text.replace(" ", "")


def test_marks_of_the_chat_format_are_guarded_where_the_tokenizer_calls_them_ordinary(tmp_path: Path) -> None:
    """Some published tokenizers have <|im_start|> as an added token that is not special."""
    save_tokenizer(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        data = json.loads((tmp_path / name).read_text())
        for token in data.get("added_tokens", []):
            token["special"] = token["special"] and not token["content"].startswith("<|im_")
        if extra := data.get("extra_special_tokens"):
            data["extra_special_tokens"] = [mark for mark in extra if not mark.startswith("<|im_")]
        (tmp_path / name).write_text(json.dumps(data))
    plain = Tokenizer.load(tmp_path)
    mark = plain.id_of("<|im_start|>")
    assert mark in plain.encode("<|im_start|>", special=False)  # nothing says yet that it means anything
    guarded = plain.guarding(ChatFormat.parse("chatml").template_texts())
    assert mark not in guarded.encode("say <|im_start|> now", special=False)
    assert guarded.encode("<|im_start|>", special=True) == [mark]
    assert guarded.guarding(ChatFormat.parse("chatml").template_texts()) is guarded


@pytest.mark.parametrize("chat", sorted(CHAT_FORMATS))
def test_a_forged_mark_adds_no_control_token_in_any_chat_format(chat: str, tmp_path: Path) -> None:
    size = save_tokenizer(tmp_path)
    inner = Tokenizer.load(tmp_path)
    processor = Processor(config(chat="compact"))
    processor.chat, processor.tokenizer = ChatFormat.parse(chat), inner
    processor.vocabulary, processor.context = size, 4096
    forged = control(inner)
    counts = []
    for words in ("plain", "".join(MARKS)):
        example = processor(sample(words, answer=words))
        counts.append(sum(int(i) in forged for i in example.ids))
        answer = example.ids[example.labels != IGNORE_LABEL].tolist()
        assert sum(i in forged for i in answer) == (0 if chat == "plain" else 1)
    assert counts[0] == counts[1]


def test_a_piece_that_cannot_be_kept_apart_is_refused() -> None:
    class Taking(ByT5Tokenizer):
        """Finds a mark in any text, as user-defined pieces of a sentencepiece model do."""

        def _tokenize(self, text: str) -> list[str]:
            return ["</s>" if piece == "</s>" else "a" for piece in text.split()]

    tokenizer = Tokenizer(Taking())
    with pytest.raises(DataError, match=r"'say </s>' holds the control token '</s>'; expected plain text"):
        tokenizer.encode("say </s>", special=False)


def test_a_tokenizer_that_splits_at_random_is_refused() -> None:
    model = models.BPE(numbered(), [], unk_token="<unk>", dropout=0.5)
    with pytest.raises(ConfigError, match=r"splits words at random \(dropout 0.5\)"):
        Tokenizer(fast(model, None))
