"""A saved model inside lmms-eval: ``lmms_eval --model ommatidia --model_args pretrained=FOLDER --tasks ...``.

The package registers itself with lmms-eval by an entry point. lmms-eval is imported only when it asks for the class.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ommatidia.core.config import digest
from ommatidia.core.errors import ConfigError
from ommatidia.core.types import ImagePart, Message, Part, Picture, Sample
from ommatidia.models.generate import Decoding
from ommatidia.models.pretrained import load
from ommatidia.models.sharing import SharedFeatures

if TYPE_CHECKING:
    from PIL.Image import Image

MARK = "<image>"
"""Where a task puts an image into its text itself."""
MOST = 1024
"""Tokens to generate where a task says nothing."""
_KNOWN = frozenset({"max_new_tokens", "max_gen_toks", "temperature", "do_sample", "top_p", "num_beams", "until"})


@dataclass(frozen=True)
class GivenPicture:
    """An image that is open already."""

    image: Image

    @property
    def digest(self) -> str:
        return hashlib.sha256(str(self.image.size).encode() + self.image.tobytes()).hexdigest()

    def size(self) -> tuple[int, int]:
        return self.image.height, self.image.width

    def open(self) -> Image:
        return self.image


@dataclass(frozen=True)
class Asked:
    """One request of the harness: the words, the images, how to generate and where to stop."""

    sample: Sample
    decoding: Decoding
    until: tuple[str, ...]


def asked(name: str, context: str, pictures: Sequence[Image], how: Mapping[str, Any]) -> Asked:
    """A request as a prompt: images first and a line break, unless the words place them.

    Raises ConfigError for ways of generating that we do not have: they would change the result without a word.
    """
    if strange := sorted(set(how) - _KNOWN):
        raise ConfigError(f"{name}: generation setting {strange[0]!r} is not known here; {', '.join(sorted(_KNOWN))}")
    if how.get("num_beams") not in (None, 1):
        raise ConfigError(f"{name}: num_beams is {how['num_beams']}, but only one beam is searched")
    pieces = context.split(MARK)
    parts: list[Part] = []
    if len(pieces) == 1:
        parts = [*(ImagePart(n) for n in range(len(pictures))), f"\n{context}" if pictures else context]
    elif len(pieces) - 1 != len(pictures):
        raise ConfigError(f"{name}: {len(pieces) - 1} places for {len(pictures)} images")
    else:
        for n, piece in enumerate(pieces):
            parts += [ImagePart(n - 1)] if n else []
            parts += [piece] if piece else []
    seen: tuple[Picture, ...] = tuple(GivenPicture(image.convert("RGB")) for image in pictures)
    sampled = bool(how.get("do_sample")) and float(how.get("temperature") or 0.0) > 0
    decoding = Decoding(
        max_new_tokens=int(how.get("max_new_tokens") or how.get("max_gen_toks") or MOST),
        temperature=float(how["temperature"]) if sampled else 0.0,
        top_p=float(how.get("top_p") or 1.0) if sampled else 1.0,
    )
    stops = how.get("until") or ()
    until = (stops,) if isinstance(stops, str) else tuple(stops)
    return Asked(Sample(name, (Message("user", tuple(parts)),), seen), decoding, until)


class Answering:
    """Answers requests in their order; those that generate alike share batches and looks at images."""

    def __init__(self, folder: str, *, device: str = "cpu", batch: int = 8) -> None:
        model, processor = load(folder, device=device)
        self.shared = SharedFeatures(model, processor, batch=batch)

    def answer(self, requests: Sequence[Asked]) -> list[str]:
        alike: dict[str, list[int]] = {}
        for n, request in enumerate(requests):
            alike.setdefault(digest(request.decoding.to_dict()), []).append(n)
        answers = [""] * len(requests)
        for group in alike.values():
            said = self.shared.answer([requests[n].sample for n in group], requests[group[0]].decoding)
            for n, text in zip(group, said, strict=True):
                answers[n] = cut(text, requests[n].until)
        return answers


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first of the stops; its spaces stay, since a function's body begins with some."""
    places = [text.find(stop) for stop in until if stop and stop in text]
    return text[: min(places)] if places else text


@cache
def model_class() -> type:
    """The class that lmms-eval builds. Raises ConfigError where lmms-eval is not installed."""
    try:
        from lmms_eval.api.model import lmms
    except ImportError:
        raise ConfigError(
            "this needs the package lmms-eval, in an environment of its own: pip install lmms-eval"
        ) from None

    class OmmatidiaLmms(lmms):
        """Builds from ``pretrained=FOLDER``; answers ``generate_until``, the simple kind of request."""

        is_simple = True

        def __init__(
            self,
            pretrained: str,
            batch_size: int | str = 8,
            device: str | None = None,
            max_batch_size: int | None = None,
        ) -> None:
            super().__init__()
            self.answering = Answering(pretrained, device=device or "cpu", batch=int(batch_size))

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            listed = []
            for request in requests:
                context, how, visual, doc_id, task, split = request.args
                pictures = visual(self.task_dict[task][split][doc_id]) if visual else ()
                listed.append(asked(f"{task}-{split}-{doc_id}", context, list(pictures or ()), how))
            return self.answering.answer(listed)

        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            raise NotImplementedError("lmms-eval ranks by mean loss and breaks on the pair; use generate_until tasks")

        def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
            raise NotImplementedError("tasks of several rounds are not supported")

    return OmmatidiaLmms


def __getattr__(name: str) -> Any:
    if name == "OmmatidiaLmms":
        return model_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def manifest() -> Any:
    """What the entry point gives: under which name lmms-eval finds the class."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="ommatidia", simple_class_path=f"{__name__}.OmmatidiaLmms")
