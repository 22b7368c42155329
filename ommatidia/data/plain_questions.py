"""Plain questions: a small fixed text-only set, to measure what training on images costs a language model."""

from __future__ import annotations

from typing import Literal

from ommatidia.core.source import SourceConfig
from ommatidia.core.types import Message, Sample

_QUESTIONS: tuple[tuple[str, str], ...] = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Spain?", "Madrid"),
    ("What is the capital of Germany?", "Berlin"),
    ("What is the capital of Egypt?", "Cairo"),
    ("What is the capital of Russia?", "Moscow"),
    ("What is the capital of England?", "London"),
    ("What is the largest planet of the solar system?", "Jupiter"),
    ("Which planet is closest to the sun?", "Mercury"),
    ("What star does the Earth go around?", "Sun"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo"),
    ("Who developed the theory of relativity?", "Einstein"),
    ("What is the chemical symbol of water?", "H2O"),
    ("Which gas do plants take in from the air?", "carbon dioxide"),
    ("Which gas do people need to breathe?", "oxygen"),
    ("What is frozen water called?", "ice"),
    ("How many days are in a week?", "7|seven"),
    ("How many months are in a year?", "12|twelve"),
    ("How many legs does a spider have?", "8|eight"),
    ("How many continents are there?", "7|seven"),
    ("What is two plus two?", "4|four"),
    ("What is ten minus three?", "7|seven"),
    ("What is the opposite of hot?", "cold"),
    ("What is the opposite of up?", "down"),
    ("What is the plural of child?", "children"),
    ("What color is the sky on a clear day?", "blue"),
    ("What color do you get by mixing blue and yellow?", "green"),
    ("What animal says meow?", "cat"),
    ("What is a young dog called?", "puppy"),
    ("What do bees make?", "honey"),
    ("What is the largest ocean?", "Pacific"),
    ("What is the longest river in Africa?", "Nile"),
    ("On which continent is Brazil?", "South America"),
    ("What language is spoken in Portugal?", "Portuguese"),
    ("What is the first month of the year?", "January"),
    ("Which day comes after Monday?", "Tuesday"),
    ("What is the main ingredient of bread?", "flour"),
    ("What organ pumps blood through the body?", "heart"),
)


class PlainQuestions(SourceConfig):
    """Forty short questions of general knowledge; an answer counts when it contains one of the references."""

    kind: Literal["plain_questions"] = "plain_questions"

    def open(self) -> PlainQuestionsSource:
        return PlainQuestionsSource()

    def describe(self) -> str:
        return f"plain questions ({len(_QUESTIONS)})"


class PlainQuestionsSource:
    """No images."""

    def __len__(self) -> int:
        return len(_QUESTIONS)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        question, accepted = _QUESTIONS[index]
        references = accepted.split("|")
        messages = (Message("user", (question,)), Message("assistant", (references[0],)))
        return Sample(
            f"plain-{index}", messages, meta={"task": "plain", "group": "knowledge", "references": references}
        )
