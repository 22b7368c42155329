"""Talk: a dialogue with a saved model about some images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ommatidia.core.console import console
from ommatidia.core.errors import ConfigError
from ommatidia.core.picture import FilePicture
from ommatidia.core.types import ImagePart, Message, Part, Picture, Sample
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.model import MLLM
from ommatidia.models.pretrained import load
from ommatidia.models.processor import Processor


@dataclass
class Talk:
    """Keeps the turns. Images stand at the head of the first question, as the models were trained."""

    model: MLLM
    processor: Processor
    pictures: tuple[Picture, ...]
    decoding: Decoding
    turns: list[Message] = field(default_factory=list)

    @classmethod
    def open(
        cls, checkpoint: Path, images: Sequence[Path], *, max_new_tokens: int, temperature: float, device: str
    ) -> Talk:
        """Load the model and check the images. Raises ConfigError, RunError or DataError."""
        model, processor = load(checkpoint, device=device)
        pictures = tuple(FilePicture(path) for path in images)
        for picture in pictures:
            picture.open()  # refuse a broken image before a question is asked about it
        if pictures and not processor.config.encoders:
            raise ConfigError(f"{checkpoint}: this model has no encoders and cannot see an image")
        if not pictures and processor.config.encoders:
            console().log("no --image given: the model answers from text alone")
        return cls(model, processor, pictures, Decoding(max_new_tokens=max_new_tokens, temperature=temperature))

    def ask(self, question: str) -> str:
        """The model's answer; question and answer join the dialogue."""
        parts: tuple[Part, ...] = (question,)
        if not self.turns:
            gap = self.processor.chat.after_image
            parts = (*(part for i in range(len(self.pictures)) for part in (ImagePart(i), gap)), question)
        self.turns.append(Message("user", parts))
        sample = Sample("chat", tuple(self.turns), self.pictures)
        answer = generate(self.model, self.processor, [sample], self.decoding)[0]
        self.turns.append(Message("assistant", (answer,)))
        return answer
