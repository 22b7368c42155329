"""Makes models/language/vocabularies/NAME.json: words of the built-in tasks as tokens, all else letter by letter.

    python tools/make_vocabulary.py tiny

Digits and capital letters stand alone, so that a word to be read is spelt and a number is written digit by digit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ommatidia.core.source import SourceConfig
from ommatidia.data import DescribedScenes, EasyVQA

MARKS = ["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"]
SIZE = 640


def corpus() -> Iterator[str]:
    """Every message of the text-only scenes and of easy-VQA."""
    sources: list[SourceConfig] = [DescribedScenes(pictures=4000), EasyVQA(split="train")]
    for config in sources:
        source = config.open()
        for index in range(len(source)):
            for message in source[index].messages:
                yield message.text


def main(name: str) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("[A-Z]"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=MARKS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    folder = Path(__file__).parents[1] / "ommatidia" / "models" / "language" / "vocabularies"
    tokenizer.save(str(folder / f"{name}.json"))


if __name__ == "__main__":
    main(sys.argv[1])
