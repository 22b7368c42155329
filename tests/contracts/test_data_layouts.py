"""Every layout through every operation and every writer: what is read back is what was there, images included."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from ommatidia.core.errors import ConfigError
from ommatidia.core.source import Source, SourceConfig
from ommatidia.core.types import ImagePart, Sample, Written
from ommatidia.data.curation import Operation
from ommatidia.data.curation.curate import Curation, curate
from ommatidia.data.guess import guess
from ommatidia.data.interleaved import Interleaved
from ommatidia.data.llava_json import LlavaJSON
from ommatidia.data.shard_writer import write_shards
from ommatidia.data.tokenised import Tokenised, write_tokenised
from ommatidia.data.webdataset import WebDataset

WORDS = ("What is red about the cube?", "Where does the second heron stand?")
ANSWERS = ("The left side.", "In the lake, behind the reeds.")
PHRASE = "Answer the question using a single word or phrase."


def image(folder: Path, number: int) -> str:
    """An image below ``pics``, and its path relative to ``folder``."""
    (folder / "pics").mkdir(exist_ok=True)
    noise = np.random.RandomState(number).randint(0, 255, (20, 24, 3), np.uint8)
    Image.fromarray(noise).save(folder / "pics" / f"{number}.png")
    return f"pics/{number}.png"


def lines(folder: Path, name: str, record: Callable[[int], dict[str, Any]]) -> Path:
    path = folder / name
    records = [{"score": number + 0.5, "origin": {"page": number}, **record(number)} for number in range(2)]
    text = json.dumps(records) if path.suffix == ".json" else "".join(json.dumps(one) + "\n" for one in records)
    path.write_text(text)
    return path


def table(folder: Path, columns: dict[str, list[Any]]) -> Path:
    parquet.write_table(pa.table({"score": [0.5, 1.5], **columns}), folder / "rows.parquet")
    return folder / "rows.parquet"


def llava(folder: Path, name: str = "talk.json") -> Path:
    def record(n: int) -> dict[str, Any]:
        turns = [{"from": "human", "value": f"<image>\n{WORDS[n]}"}, {"from": "gpt", "value": ANSWERS[n]}]
        return {"id": f"r{n}", "image": image(folder, n), "conversations": turns}

    return lines(folder, name, record)


def sharegpt(folder: Path) -> Path:
    def record(n: int) -> dict[str, Any]:
        said = (("system", "Be kind."), ("human", WORDS[n]), ("gpt", ANSWERS[n]), ("human", "Why?"), ("gpt", "So."))
        return {"conversations": [{"from": speaker, "value": text, "markdown": n} for speaker, text in said]}

    return lines(folder, "share.jsonl", record)


def alpaca(folder: Path) -> Path:
    def record(n: int) -> dict[str, Any]:
        before = [["Hello", "Good day"]] if n else []
        asked = {"instruction": WORDS[n], "input": "in short" * n, "output": ANSWERS[n]}
        return {**asked, "history": before, "system": "Be kind."}

    return lines(folder, "alpaca.json", record)


def flan(folder: Path) -> Path:
    return lines(folder, "flan.jsonl", lambda n: {"id": n, "inputs": WORDS[n], "targets": ANSWERS[n]})


def openai(folder: Path, *, listed: bool = False) -> Path:
    def record(n: int) -> dict[str, Any]:
        names = [image(folder, 2 * n), image(folder, 2 * n + 1)]
        parts: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": name}} if n else {"type": "image", "image": name}
            for name in names
        ]
        if listed:
            parts = [{"type": "image", "index": 1}, {"type": "image", "index": 0}]
        parts.insert(1, {"type": "text", "text": WORDS[n]})
        answer = [{"type": "text", "text": "Like <image>: "}, {"type": "text", "text": ANSWERS[n]}]
        messages = [{"role": "user", "content": parts}, {"role": "assistant", "content": answer}]
        return {"id": f"o{n}", "messages": messages, **({"images": names} if listed else {})}

    return lines(folder, "openai.jsonl", record)


def data_uris(folder: Path) -> Path:
    import base64

    def record(n: int) -> dict[str, Any]:
        data = base64.b64encode((folder / image(folder, n)).read_bytes()).decode()
        turns = [{"from": "human", "value": f"{WORDS[n]} <image>"}, {"from": "gpt", "value": ANSWERS[n]}]
        return {"id": f"u{n}", "image": f"data:image/png;base64,{data}", "conversations": turns}

    return lines(folder, "uris.jsonl", record)


def stored(folder: Path) -> list[dict[str, Any]]:
    return [{"bytes": (folder / image(folder, n)).read_bytes(), "path": None} for n in range(2)]


def questions(folder: Path) -> Path:
    return table(folder, {"question": list(WORDS), "answer": list(ANSWERS), "image": stored(folder), "id": ["a", "b"]})


def messages_table(folder: Path) -> Path:
    turns = [
        [{"role": "user", "content": f"<image>{WORDS[n]}"}, {"role": "assistant", "content": ANSWERS[n]}]
        for n in range(2)
    ]
    return table(folder, {"messages": turns, "images": [[one] for one in stored(folder)]})


def pairs(folder: Path) -> Path:
    return lines(folder, "pairs.jsonl", lambda n: {"id": f"p{n}", "image": image(folder, n), "text": ANSWERS[n]})


def pairs_table(folder: Path) -> Path:
    return table(folder, {"image": [image(folder, n) for n in range(2)], "text": list(ANSWERS)})


def obelics(folder: Path) -> Path:
    def record(n: int) -> dict[str, Any]:
        return {"texts": [WORDS[n], None, ANSWERS[n], None], "images": [None, image(folder, n), None, image(folder, 2)]}

    return lines(folder, "obelics.jsonl", record)


def mmc4(folder: Path) -> Path:
    def record(n: int) -> dict[str, Any]:
        info = [{"image_name": image(folder, n), "matched_text_index": 1, "matched_sim": 0.5}]
        return {"text_list": [WORDS[n], ANSWERS[n]], "image_info": info}

    return lines(folder, "mmc4.jsonl", record)


def shards(folder: Path, made: Callable[[Path], Path]) -> Path:
    source = guess(made(folder))
    (path,) = write_shards(source.open(), folder / "shards", per_shard=5, fingerprint="f")
    return path


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "LLaVA": llava,
    "LLaVA lines": lambda folder: llava(folder, "talk.jsonl"),
    "ShareGPT": sharegpt,
    "Alpaca": alpaca,
    "FLAN": flan,
    "OpenAI parts": openai,
    "OpenAI parts by index": lambda folder: openai(folder, listed=True),
    "data URIs": data_uris,
    "table of questions": questions,
    "table of messages": messages_table,
    "pairs": pairs,
    "table of pairs": pairs_table,
    "OBELICS": obelics,
    "MMC4": mmc4,
    "shards of dialogues": lambda folder: shards(folder, openai),
    "shards of pairs": lambda folder: shards(folder, pairs),
    "shards of documents": lambda folder: shards(folder, obelics),
}
ASKS = [name for name in LAYOUTS if not any(word in name for word in ("pairs", "OBELICS", "MMC4", "documents"))]
DOCUMENTS = ("OBELICS", "MMC4", "shards of documents")

OPERATIONS: dict[str, dict[str, Any]] = {
    "cap": {"most": 5},
    "decontaminate": {"by": "picture", "pictures": "appearance"},
    "duplicates": {},
    "format_prompts": {"others": 10},
    "length": {"words_most": 100},
    "near_duplicates": {"same_pictures": False},
    "quality": {"field": "score", "least": 0.1},
    "ratio": {"shares": {"mine": 1}},
    "resolution": {"least": 10},
}
"""Each so that it keeps every record."""


def said(sample: Sample) -> list[tuple[str, list[Any]]]:
    """Turns as words and images in their order; neighbouring words are one, as no format tells them apart."""
    turns = []
    for message in sample.messages:
        parts: list[Any] = []
        for part in message.parts:
            value = sample.images[part.index].digest if isinstance(part, ImagePart) else part
            if isinstance(part, str) and parts and isinstance(parts[-1], str) and len(parts[-1]) < 64:
                parts[-1] += part
            elif part != "":
                parts.append(value)
        turns.append((message.role, parts))
    return turns


def opened(config: SourceConfig) -> list[Sample]:
    source: Source = config.open()
    return [source[index] for index in range(len(source))]


def tokens_of(config: SourceConfig, folder: Path) -> SourceConfig:
    def write(sample: Sample) -> Written:
        return Written({}, [1, 2], [True, True], [False, False], [], [], (), [], (), (), ())

    for _ in write_tokenised(config, write, {}, folder):
        pass
    return Tokenised(path=folder)


def shards_of(config: SourceConfig, folder: Path) -> SourceConfig:
    list(write_shards(config.open(), folder, per_shard=1, fingerprint=config.fingerprint()))
    return WebDataset(shards=f"{folder}/shard-*.tar")


MATRIX = [
    # A third of the pairs, every layout and every operation several times, in the quick suite; the others before a
    # release.
    pytest.param(layout, kind, marks=() if (row + column) % 3 == 0 else pytest.mark.slow)
    for row, layout in enumerate(LAYOUTS)
    for column, kind in enumerate(OPERATIONS)
]


@pytest.mark.parametrize(("layout", "kind"), MATRIX)
def test_every_layout_through_every_operation_and_writer(layout: str, kind: str, tmp_path: Path) -> None:
    data, exam = tmp_path / "data", tmp_path / "exam"
    data.mkdir()
    exam.mkdir()
    path = LAYOUTS[layout](data)
    operation = {"kind": kind, **OPERATIONS[kind]}
    if kind == "decontaminate":
        held = lines(exam, "held.jsonl", lambda n: {"image": image(exam, 90 + n), "text": "held"})
        operation["against"] = [guess(held).to_dict()]
    out = tmp_path / "elsewhere" / "out.jsonl"
    sources = {"mine": {"path": str(path), "category": "mine"}}
    passages = curate(Curation.parse({"sources": sources, "operations": [operation]}), out)
    assert passages[-1].after.total() == 2, passages[-1]
    before = opened(guess(path))
    curated = guess(out)
    assert isinstance(curated, Interleaved if layout in DOCUMENTS else LlavaJSON)
    writers = {"curate": curated, "shard": shards_of(curated, tmp_path / "tars")}
    writers["pack"] = tokens_of(writers["shard"], tmp_path / "tokens")
    for writer, config in writers.items():
        after = opened(config)
        assert [one.id for one in after] == [one.id for one in before], writer
        for one, other in zip(before, after, strict=True):
            expected = said(one)
            if kind == "format_prompts" and layout in ASKS:
                for turn, (role, parts) in enumerate(expected):
                    if role == "user":
                        words = said(other)[turn][1]
                        assert words.pop().endswith(f"\n{PHRASE}")
                        assert not any(PHRASE in str(part) for part in parts)
                continue
            assert said(other) == expected, writer
            assert {k: v for k, v in other.fields.items() if k in one.fields} == dict(one.fields), writer
            assert other.fields["provenance"]["file"] == (str(path))
            for picture in other.images:
                assert picture.open().size == (24, 20)


def test_the_contract_covers_every_operation() -> None:
    assert set(OPERATIONS) == {
        kind for kind, one in Operation.kinds().items() if one.__module__.startswith("ommatidia.")
    }


REFUSED = {
    "length": ({"answer_most": 5}, DOCUMENTS, "a document has no questions and answers"),
    "near_duplicates": ({"of": "answers"}, DOCUMENTS, "a document has no answers"),
    "decontaminate": ({"by": "question", "benchmarks": ["mme"]}, (*DOCUMENTS, "pairs"), "has no question"),
    "format_prompts": ({"sources": {"mine": ["phrase"]}}, (*DOCUMENTS, "pairs"), "has no question to put a sentence"),
}


@pytest.mark.parametrize(("kind", "layout"), [(kind, layout) for kind in REFUSED for layout in REFUSED[kind][1]])
def test_what_an_operation_cannot_take_is_refused_before_work(kind: str, layout: str, tmp_path: Path) -> None:
    fields, _, why = REFUSED[kind]
    sources = {"mine": {"path": str(LAYOUTS[layout](tmp_path))}}
    config = Curation.parse({"sources": sources, "operations": [{"kind": kind, **fields}]})
    with pytest.raises(ConfigError, match=rf"operations\.0: source 'mine': .*{why}"):
        curate(config, tmp_path / "out.jsonl")
    assert not list(tmp_path.glob("out*"))


def test_documents_and_dialogues_go_into_two_files(tmp_path: Path) -> None:
    sources = {"talk": {"path": str(llava(tmp_path))}, "pages": {"path": str(obelics(tmp_path))}}
    with pytest.raises(ConfigError, match="'pages' holds documents and 'talk' holds dialogues"):
        curate(Curation.parse({"sources": sources, "operations": ["duplicates"]}), tmp_path / "out.jsonl")


def test_ids_of_several_corpora_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    sources = {"a": {"path": str(llava(tmp_path / "a"))}, "b": {"path": str(openai(tmp_path / "b"))}}
    sources["c"] = {"source": {"kind": "pairs", "path": str(pairs_table(tmp_path))}}
    out = tmp_path / "out.jsonl"
    curate(Curation.parse({"sources": sources, "operations": []}), out)
    assert [one.id for one in opened(guess(out))] == ["a/r0", "a/r1", "b/o0", "b/o1", "c/1", "c/2"]
    twice = Curation.parse({"sources": {"all": {"path": str(out)}}, "operations": []})
    curate(twice, tmp_path / "again" / "out.jsonl")
    again = opened(guess(tmp_path / "again" / "out.jsonl"))
    assert [said(one) for one in again] == [said(one) for one in opened(guess(out))]
    assert [one.fields["provenance"]["given_source"] for one in again] == ["a", "a", "b", "b", "c", "c"]


def test_paths_lead_to_the_images_through_links(tmp_path: Path) -> None:
    (tmp_path / "deep" / "store").mkdir(parents=True)
    path = llava(tmp_path / "deep" / "store")
    (tmp_path / "data").symlink_to(tmp_path / "deep" / "store")
    (tmp_path / "out").symlink_to(tmp_path / "deep")
    sources = {"mine": {"path": str(tmp_path / "data" / path.name)}}
    curate(Curation.parse({"sources": sources, "operations": []}), tmp_path / "out" / "out.jsonl")
    assert [one.images[0].size() for one in opened(guess(tmp_path / "out" / "out.jsonl"))] == [(20, 24)] * 2
