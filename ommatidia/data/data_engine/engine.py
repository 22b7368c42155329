"""The data engine (Cambrian-1, section 5.2): knowledge questions about images of a local corpus, by a language model.

Fields -> subfields -> topics (by the writer) -> documents (by search) -> images beside text -> one question and its
answer for each (by the writer) -> filters -> LLaVA records that say where they come from. Every reply is kept as it
comes, so that a run that was stopped anywhere asks nothing twice; everything else is arithmetic and made again.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, model_validator

from ommatidia.core.config import Config
from ommatidia.core.console import console
from ommatidia.core.endpoint import CapReachedError, Endpoint, EndpointError, Pace, Replies, Reply
from ommatidia.core.errors import ConfigError, DataError, DiskError
from ommatidia.core.file_lock import only_writer
from ommatidia.core.files import hash_file
from ommatidia.core.owned_file import check_file, put_file
from ommatidia.core.picture import FilePicture
from ommatidia.core.spending import Ledger, Prices, Tokens
from ommatidia.data.curation.curate import Curation, Passage, curate
from ommatidia.data.curation.duplicates import Duplicates
from ommatidia.data.curation.length import Length
from ommatidia.data.curation.operation import Operation
from ommatidia.data.curation.output import OutputFacts, put_output, read_output
from ommatidia.data.data_engine import wording
from ommatidia.data.data_engine.corpus import Document, Documents, Section
from ommatidia.data.data_engine.search import Index


class Writer(Config):
    """The language model that writes, behind an OpenAI-compatible endpoint."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://")]
    """What stands before /chat/completions."""
    model: Annotated[str, Field(min_length=1)]
    key_variable: str | None = None
    """Environment variable that holds the key, which is written nowhere; None: no key."""
    timeout: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for one attempt."""
    attempts: Annotated[int, Field(ge=1)] = 3
    pause: Annotated[float, Field(ge=0)] = 2.0
    """Seconds before the second attempt; twice as long before each further one."""
    per_minute: Annotated[float, Field(gt=0)] | None = None
    """Attempts that may begin in a minute; None: any number."""
    workers: Annotated[int, Field(ge=1)] = 4
    """Calls on their way at one time, and so what a kill may lose."""

    question_price: Annotated[float, Field(ge=0)] = 0.0
    """Cost of a million tokens of questions, in any currency."""
    answer_price: Annotated[float, Field(ge=0)] = 0.0
    """Cost of a million tokens of answers."""
    tokens_most: Annotated[int, Field(ge=1)] | None = None
    """Tokens that all runs for one output may take together; None: no cap."""
    cost_most: Annotated[float, Field(gt=0)] | None = None
    """Cost that all runs for one output may take together, in the currency of the prices; None: no cap."""
    answer_tokens_most: Annotated[int, Field(ge=1)] | None = None
    """The longest answer that is asked for, in tokens; None: the endpoint decides."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cost_most is not None and not (self.question_price or self.answer_price):
            raise ConfigError("cost_most: needs question_price or answer_price, or nothing has a cost")
        return self

    def ledger(self, path: Path) -> Ledger:
        """Where the calls' tokens are written down. Raises RunError for a damaged file."""
        return Ledger(
            path,
            prices=Prices(self.question_price, self.answer_price),
            tokens_most=self.tokens_most,
            cost_most=self.cost_most,
            answer_most=self.answer_tokens_most,
        )

    def endpoint(self, ledger: Ledger) -> Endpoint:
        """Raises ConfigError when the key is not in the environment."""
        key = "" if self.key_variable is None else os.environ.get(self.key_variable, "")
        if self.key_variable is not None and not key:
            raise ConfigError(f"writer.key_variable: the environment has no {self.key_variable}")
        pace = Pace(self.per_minute or math.inf)
        return Endpoint(
            self.url, self.model, key, self.timeout, self.attempts, self.pause, pace, ledger, self.answer_tokens_most
        )


class DataEngine(Config):
    """What is written about, from which documents, by whom, and what is kept of it."""

    fields: Annotated[tuple[str, ...], Field(min_length=1)]
    """Such as "Biology"; Cambrian-1 has 30."""
    subfields: Annotated[int, Field(ge=1)] = 6
    """Of each field."""
    topics: Annotated[int, Field(ge=1)] = 20
    """Of each subfield."""
    documents: Path
    """JSONL of documents; see ``corpus``."""
    image_root: Path | None = None
    """Folder that image paths are relative to; None: the folder of the documents."""
    per_topic: Annotated[int, Field(ge=1)] = 10
    """Documents that a topic's search takes."""
    skip_sections: tuple[str, ...] = ("history", "references", "external links", "see also", "notes", "further reading")
    words_least: Annotated[int, Field(ge=0)] = 50
    """Words that the text beside an image must exceed."""
    side_least: Annotated[int, Field(ge=2)] = 64
    """Pixels of an image's shorter side."""
    consistent: bool = True
    """Whether a pair must share a word with the image's caption or title."""
    most: Annotated[int, Field(ge=1)] | None = None
    """Images that are asked about, in order; None: all that were found."""
    writer: Writer
    filters: tuple[Operation, ...] = (
        Length(question_least=3, question_most=60, answer_most=120),
        Duplicates(by="text_and_pictures"),
    )
    """What is done to the finished records."""
    category: str = "science"


@dataclass
class Written:
    """What a run did. Every call and every image is in exactly one count."""

    calls: dict[str, Counter[str]] = field(default_factory=dict)
    """By step: calls that were ``made`` and ``held``, and what came of them: ``used``, ``nonsense``, ``dropped``;
    those that ``failed``, and those that were not made since they were ``over the cap``."""
    pictures: Counter[str] = field(default_factory=Counter)
    """Images of the documents that were found, by what became of them."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Dropped pairs by reason."""
    passages: list[Passage] = field(default_factory=list)
    topics: int = 0
    documents: int = 0
    spent: Tokens = field(default_factory=Tokens)
    """By all runs for this output."""
    cost: float = 0.0
    """Of what is spent."""
    records: int = 0
    """In the output as it stands now."""
    kept_output: bool = False
    """Whether an earlier output stays, since this run's has not all of its records."""

    @property
    def failed(self) -> int:
        """Questions without a reply; the same command asks them again."""
        return sum(counts["failed"] + counts["over the cap"] for counts in self.calls.values())


@dataclass(frozen=True, slots=True)
class _Block:
    """An image beside text."""

    topic: tuple[str, str, str]
    number: int
    """Of the document in its file, from 1."""
    document: Document
    section: Section
    image: str
    caption: str

    def prompt(self) -> str:
        return wording.QUESTION[1].format(
            section=self.section.title, title=self.document.title, caption=self.caption, text=self.section.text
        )

    def record(self, question: str, answer: str, *, model: str, reply: Reply, key: str) -> dict[str, Any]:
        return {
            "id": key[:16],
            "image": self.image,
            "conversations": [
                {"from": "human", "value": f"<image>\n{question}"},
                {"from": "gpt", "value": answer},
            ],
            "provenance": {
                "record": self.number,
                "document": self.document.id, "title": self.document.title, "url": self.document.url,
                "section": self.section.title, "caption": self.caption, "topic": list(self.topic),
                "prompt": wording.QUESTION[0], "model": model, "time": reply.time, "reply": key,
            },
        }  # fmt: skip


def write(config: DataEngine, out: Path) -> Written:
    """Write ``out`` (JSONL). Replies are kept in ``out.replies.jsonl``, what was not used is in ``out.rejected.jsonl``.

    An output that stands is replaced only by one that answers every question, or has all of its records.

    Raises ConfigError (also for an ``out`` that we did not write or that was changed), DataError, DiskError,
    UnansweredError when the writer does not answer, and RunError when another process writes ``out``.
    """
    with only_writer(out.with_name(f"{out.name}.replies.jsonl")):
        return _Writing(config, out).run()


class _Writing:
    def __init__(self, config: DataEngine, out: Path) -> None:
        self._config, self._out = config, out
        self._documents = Documents(config.documents)
        self._root = config.image_root or config.documents.parent
        kept = out.with_name(f"{out.name}.replies.jsonl")
        self._before = read_output(out)
        self._ledger = config.writer.ledger(out.with_name(f"{out.name}.spent.jsonl"))
        endpoint = config.writer.endpoint(self._ledger)
        self._replies = Replies(endpoint, kept, who="writer", workers=config.writer.workers)
        self._skipped = {title.lower() for title in config.skip_sections}
        self._written = Written()
        self._rejected: list[dict[str, Any]] = []
        self._rejected_file = out.with_name(f"{out.name}.rejected.jsonl")
        check_file(self._rejected_file)

    def run(self) -> Written:
        topics = self._topics()
        console().log(f"{len(topics)} topics; searching {len(self._documents)} documents")
        blocks = list(islice(self._blocks(topics), self._config.most))
        draft = self._out.with_name(f"{self._out.name}.draft.jsonl")
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            records = list(self._pairs(blocks))
            _write_lines(draft, records)
            put_file(self._rejected_file, _lines(self._rejected))
            self._finish(records, draft)
            draft.unlink()
        except OSError as error:
            raise DiskError(f"{self._out}: {error.strerror or error}; no reply was lost") from None
        self._written.spent, self._written.cost = self._ledger.spent, self._ledger.cost
        return self._written

    def _finish(self, records: list[dict[str, Any]], draft: Path) -> None:
        written = self._written
        before = [] if self._before is None else [json.loads(line)["id"] for line in self._out.open("rb")]
        if written.failed and not set(before) < {record["id"] for record in records}:
            written.kept_output, written.records = bool(before), len(before)
        elif records:
            written.passages = self._filtered(draft)
            written.records = written.passages[-1].after.total()
        else:
            empty = self._out.with_name(f"{self._out.name}.part")
            _write_lines(empty, [])
            put_output(empty, self._out, OutputFacts("", hash_file(empty), self._config.to_dict(), []))

    def _filtered(self, draft: Path) -> list[Passage]:
        corpus = {"path": str(draft), "image_root": str(self._root), "category": self._config.category}
        operations = [operation.to_dict() for operation in self._config.filters]
        return curate(Curation.parse({"sources": {"data_engine": corpus}, "operations": operations}), self._out)

    def _asked(self, step: str, prompts: list[str]) -> Iterator[tuple[int, Reply]]:
        """Every question that got a reply by its number; the others are counted and listed."""
        counts = self._written.calls.setdefault(step, Counter())
        new = [prompt for prompt in dict.fromkeys(prompts) if not self._replies.holds(prompt)]
        expected = self._ledger.estimate(new)
        cost = f", cost {expected.cost(self._ledger.prices):.4g}" if expected.cost(self._ledger.prices) else ""
        console().log(f"{step}: {len(new)} calls, an estimated {expected.total:,} tokens{cost}")
        with console().progress(step, len(prompts)) as bar:
            for number, (prompt, reply) in enumerate(self._replies.stream(prompts)):
                bar.advance()
                if isinstance(reply, EndpointError):
                    why = "over the cap" if isinstance(reply, CapReachedError) else "failed"
                    counts[why] += 1
                    self._reject(step, why, prompt, str(reply))
                    continue
                counts["held" if reply.held else "made"] += 1
                yield number, reply

    def _reject(self, step: str, why: str, prompt: str, reply: str) -> None:
        self._rejected.append({"step": step, "why": why, "prompt": prompt, "reply": reply})

    def _lists(self, step: str, prompts: list[str], most: int) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in prompts]
        for number, reply in self._asked(step, prompts):
            found[number] = wording.read_list(reply.text, most=most)
            self._written.calls[step]["used" if found[number] else "nonsense"] += 1
            if not found[number]:
                self._reject(step, "no list", prompts[number], reply.text)
        return found

    def _topics(self) -> list[tuple[str, str, str]]:
        """(field, subfield, topic), each topic once."""
        config = self._config
        fields = list(dict.fromkeys(config.fields))
        prompts = [wording.SUBFIELDS[1].format(count=config.subfields, field=name) for name in fields]
        lists = self._lists("subfields", prompts, config.subfields)
        pairs = [(name, subfield) for name, found in zip(fields, lists) for subfield in found]
        prompts = [wording.TOPICS[1].format(count=config.topics, field=name, subfield=sub) for name, sub in pairs]
        topics: dict[str, tuple[str, str, str]] = {}
        for pair, found in zip(pairs, self._lists("topics", prompts, config.topics)):
            for topic in found:
                topics.setdefault(topic.lower(), (*pair, topic))
        self._written.topics = len(topics)
        return list(topics.values())

    def _blocks(self, topics: list[tuple[str, str, str]]) -> Iterator[_Block]:
        """Images beside enough text, of the documents that topics find; a document belongs to its first topic."""
        index = Index(document.text for document in self._documents)
        seen: set[int] = set()
        asked: set[str] = set()
        for topic in topics:
            for number in index.find(topic[2], most=self._config.per_topic):
                if number in seen:
                    continue
                seen.add(number)
                self._written.documents += 1
                document = self._documents[number]
                pictures = ((section, *image) for section in document.sections for image in section.images)
                for section, image, caption in pictures:
                    block = _Block(topic, number + 1, document, section, image, caption)
                    why = "repeated" if block.prompt() in asked else self._unusable(block)
                    self._written.pictures[why or "asked about"] += 1
                    if not why:
                        asked.add(block.prompt())
                        yield block

    def _unusable(self, block: _Block) -> str:
        if block.section.title.lower().strip() in self._skipped:
            return "skipped section"
        if len(block.section.text.split()) <= self._config.words_least:
            return "too little text beside it"
        if not block.caption.strip():
            return "no caption"
        try:
            short = min(FilePicture(self._root / block.image).size())
        except DataError:
            return "missing or broken"
        return "too small" if short < self._config.side_least else ""

    def _pairs(self, blocks: list[_Block]) -> Iterator[dict[str, Any]]:
        step, model = "questions", self._replies.model.name
        prompts = [block.prompt() for block in blocks]
        for number, reply in self._asked(step, prompts):
            block, counts = blocks[number], self._written.calls[step]
            pair = wording.read_pair(reply.text)
            if pair is None:
                counts["nonsense"] += 1
                self._reject(step, "no question with an answer", prompts[number], reply.text)
                continue
            beside = f"{block.document.title} {block.caption}"
            if why := wording.fault(*pair, beside=beside, consistent=self._config.consistent):
                counts["dropped"] += 1
                self._written.reasons[why] += 1
                self._reject(step, why, prompts[number], reply.text)
                continue
            counts["used"] += 1
            record = block.record(*pair, model=model, reply=reply, key=self._replies.key(prompts[number]))
            record["provenance"] = {"file": str(self._config.documents), **record["provenance"]}
            yield record


def _write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(_lines(records))
    os.replace(part, path)


def _lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
