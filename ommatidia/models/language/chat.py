"""Chat formats: the only place a prompt template lives. Dialogues become segments that know if they are supervised.

Only what the assistant writes and the mark that ends its turn carry a loss. Because every segment is tokenised by
itself and keeps its flag, labels cannot slip against the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError, DataError, unknown
from ommatidia.core.types import ImagePart, Message


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of text. ``template`` text may hold control tokens; ``supervised`` text carries the loss."""

    text: str
    template: bool = False
    supervised: bool = False
    asked: bool = False
    """The user's own words."""


class ChatFormat(Config):
    """What stands around each turn. A bare name picks one of ``CHAT_FORMATS``."""

    name: str
    start: str = ""
    """Before everything: the beginning-of-sequence mark where the model expects one."""
    system: str = ""
    """The system message used when a dialogue brings none; empty for none."""
    system_prefix: str = ""
    system_suffix: str = ""
    user_prefix: str = ""
    user_suffix: str = ""
    assistant_prefix: str = ""
    answer_prefix: str = ""
    """Belongs to the answer (a leading blank, say): supervised, and not part of the prompt at generation."""
    end: str
    """Ends an assistant turn; one control token, at which generation stops."""
    after_end: str = ""
    """Text between an assistant turn and the next one; not supervised."""
    after_image: str = "\n"
    """What stands between an image and the question about it, where somebody writes one (``omma chat``)."""
    drop_user_text: bool = False
    """LLaVA's stage-1 form: the image, then the caption; what the user said is left out."""

    @classmethod
    def named(cls, name: str) -> Mapping[str, Any]:
        if name not in CHAT_FORMATS:
            raise ConfigError(unknown("chat format", name, CHAT_FORMATS))
        return CHAT_FORMATS[name]

    def template_texts(self) -> tuple[str, ...]:
        """What the format writes itself around the turns: the only texts that may hold control tokens."""
        return (
            self.start, self.system_prefix, self.system_suffix, self.user_prefix, self.user_suffix,
            self.assistant_prefix, self.end, self.after_end,
        )  # fmt: skip

    def render(self, messages: Sequence[Message], *, answer: bool) -> list[Segment | ImagePart]:
        """Segments and image places in order; with ``answer=False`` everything up to where the model should speak.

        A document stands there as it is, between the mark of the beginning and the one that ends an answer.

        Raises DataError for a dialogue that has no user turn or, when it is to be answered, ends with an answer; for a
        document that is to be answered, or is not alone.
        """
        turns = list(messages)
        if any(turn.role == "document" for turn in turns):
            return self._document(turns, answer=answer)
        out: list[Segment | ImagePart] = [Segment(self.start, template=True)]
        system = turns.pop(0).text if turns and turns[0].role == "system" else self.system
        if system:
            out += [
                Segment(self.system_prefix, template=True),
                Segment(system),
                Segment(self.system_suffix, template=True),
            ]
        if not answer:
            while turns and turns[-1].role == "assistant":
                turns.pop()
        if not turns:
            raise DataError("the dialogue has no turn to render")
        for turn in turns:
            if turn.role == "system":
                raise DataError("a system message after the first turn; it must come first")
            out += self._user(turn) if turn.role == "user" else self._assistant(turn)
        if not answer:
            out.append(Segment(self.assistant_prefix, template=True))
        return [part for part in out if isinstance(part, ImagePart) or part.text]

    def _document(self, turns: Sequence[Message], *, answer: bool) -> list[Segment | ImagePart]:
        if len(turns) != 1:
            raise DataError(f"a document among {len(turns)} messages; it must be the only one", kind="roles")
        if not answer:
            raise DataError("a document asks nothing that could be answered")
        parts = [part if isinstance(part, ImagePart) else Segment(part, supervised=True) for part in turns[0].parts]
        out = [Segment(self.start, template=True), *parts, Segment(self.end, template=True, supervised=True)]
        return [part for part in out if isinstance(part, ImagePart) or part.text]

    def _user(self, turn: Message) -> list[Segment | ImagePart]:
        if self.drop_user_text:
            return [part for part in turn.parts if isinstance(part, ImagePart)]
        parts: list[Segment | ImagePart] = [
            p if isinstance(p, ImagePart) else Segment(p, asked=True) for p in turn.parts
        ]
        return [Segment(self.user_prefix, template=True), *parts, Segment(self.user_suffix, template=True)]

    def _assistant(self, turn: Message) -> list[Segment | ImagePart]:
        parts: list[Segment | ImagePart] = [
            p if isinstance(p, ImagePart) else Segment(p, supervised=True) for p in turn.parts
        ]
        if self.answer_prefix and parts and isinstance(parts[0], Segment):
            parts[0] = Segment(self.answer_prefix + parts[0].text, supervised=True)
        return [
            Segment(self.assistant_prefix, template=True),
            *parts,
            Segment(self.end, template=True, supervised=True),
            Segment(self.after_end, template=True),
        ]


_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


_CAMBRIAN_SYSTEM = (
    "You are Cambrian, a highly intelligent multimodal AI trained by NYU Vision X. As a multimodal AI, you have the "
    "ability to process and analyze images. Whenever an image is present in the conversation, very carefully examine "
    "it and consider its content when formulating your response. You should give concise responses to very simple "
    "questions, but provide thorough responses to more complex and open-ended questions."
)
# The released Llama-3 template broke the lines of the source file into the prompt; the model was trained with that.
_CAMBRIAN_SYSTEM_BROKEN = (
    _CAMBRIAN_SYSTEM.replace("Vision X. As", "Vision X. \n    As").replace("response. You", "response.\n    You") + " "
)


def _llama3(start: str, *, system: str = _VICUNA_SYSTEM, newlines: str = "\n\n") -> dict[str, Any]:
    def header(role: str) -> str:
        return f"<|start_header_id|>{role}<|end_header_id|>{newlines}"

    return {
        "start": start,
        "system": system,
        "system_prefix": header("system"),
        "system_suffix": "<|eot_id|>",
        "user_prefix": header("user"),
        "user_suffix": "<|eot_id|>",
        "assistant_prefix": header("assistant"),
        "end": "<|eot_id|>",
    }


def _chatml(system: str, newline: str) -> dict[str, Any]:
    return {
        "system": system,
        "system_prefix": "<|im_start|>system\n",
        "system_suffix": f"<|im_end|>{newline}",
        "user_prefix": "<|im_start|>user\n",
        "user_suffix": f"<|im_end|>{newline}",
        "assistant_prefix": "<|im_start|>assistant\n",
        "end": "<|im_end|>",
        "after_end": newline,
    }


_FIELDS: dict[str, dict[str, Any]] = {
    # One control token a role: what the small models from scratch are trained with.
    "compact": {"after_image": "", "user_prefix": "<|user|>", "assistant_prefix": "<|assistant|>", "end": "<|end|>"},
    # LLaVA stage 1: image, caption, newline.
    "plain": {"start": "<s>", "end": "\n", "drop_user_text": True},
    "vicuna_v1": {
        "start": "<s>",
        "system": _VICUNA_SYSTEM,
        "system_suffix": " ",
        "user_prefix": "USER: ",
        "user_suffix": " ",
        "assistant_prefix": "ASSISTANT:",
        "answer_prefix": " ",
        "end": "</s>",
    },
    "llama3": _llama3("<|begin_of_text|>"),
    # The published Eagle Llama-3 checkpoint was trained with the mark twice: once by template, once by tokenizer.
    "llama3_two_bos": _llama3("<|begin_of_text|><|begin_of_text|>"),
    "yi_34b_chatml_direct": _chatml("Answer the questions.", ""),
    # Cambrian-1: no newline behind a Llama-3 header; its 13B model speaks plain vicuna_v1.
    "cambrian_llama3": _llama3("<|begin_of_text|>", system=_CAMBRIAN_SYSTEM_BROKEN, newlines=""),
    "cambrian_chatml": _chatml(_CAMBRIAN_SYSTEM, ""),
    "mistral_instruct": {
        "start": "<s>",
        "user_prefix": "[INST] ",
        "user_suffix": " [/INST]",
        "answer_prefix": " ",
        "end": "</s>",
    },
    "chatml": _chatml("", "\n"),
    "smollm2": _chatml("You are a helpful AI assistant named SmolLM, trained by Hugging Face", "\n"),
    # Without a system message: shorter, and the model answers as well.
    "smollm2_brief": {**_chatml("", "\n"), "after_image": ""},
}

CHAT_FORMATS: Mapping[str, Mapping[str, Any]] = {name: {"name": name, **fields} for name, fields in _FIELDS.items()}
"""Formats by name. Vicuna, Llama-3 and Yi follow the templates of the same names in Eagle's released code."""
