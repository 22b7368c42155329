"""The data engine, with a writer in the test: what it asks, keeps, drops and counts; killed, it repeats no call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.endpoint import Endpoint, EndpointError, Pace, Replies
from ommatidia.core.errors import ConfigError, DataError, RunError
from ommatidia.data.data_engine import DataEngine, write
from ommatidia.data.data_engine.corpus import Documents
from ommatidia.data.data_engine.search import Index
from ommatidia.data.data_engine.wording import fault, read_list, read_pair
from ommatidia.data.llava_json import LlavaJSON

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

Say = Callable[[str], str | int]
BEASTS = ("heron", "lynx", "otter", "raven", "viper", "walrus")


class Server:
    """A chat endpoint that replies by a function of the prompt; a number is a status that refuses."""

    def __init__(self, say: Say) -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][0]["content"]
                outer.asked.append(prompt)
                said = say(prompt)
                self.send_response(said if isinstance(said, int) else 200)
                self.end_headers()
                self.wfile.write(json.dumps({"choices": [{"message": {"content": said}}]}).encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[[Say], Server]]:
    servers: list[Server] = []

    def start(say: Say) -> Server:
        servers.append(Server(say))
        return servers[-1]

    yield start
    for server in servers:
        server.server.shutdown()
        server.server.server_close()


def say(prompt: str) -> str:
    """A writer that knows two subfields of one field, and beasts."""
    if "subfields of the field" in prompt:
        return "1. Birds\n2. Mammals and reptiles\n"
    if "topics of the subfield" in prompt:
        return "- heron\n- raven" if '"Birds"' in prompt else "* lynx\n* otter\n* viper\n* walrus\n* Raven"
    beast = next(beast for beast in BEASTS if f'page "{beast.title()}"' in prompt)
    return f"Question: What does the {beast} in the image eat?\nAnswer: The {beast} eats what it finds."


def corpus(folder: Path, *, words: int = 60) -> Path:
    """A page for each beast: one good image, one in a section that is skipped, one without text, one missing."""
    lines = []
    for number, beast in enumerate(BEASTS):
        Image.new("RGB", (80, 70), (number * 40, 90, 20)).save(folder / f"{beast}.png")
        text = " ".join([beast, *(f"word{n}" for n in range(words))])
        here = [{"path": f"{beast}.png", "caption": f"A {beast} at rest"}]
        gone = [{"path": "gone.png", "caption": "gone"}]
        sections = [
            {"title": "Habits", "text": text, "images": here},
            {"title": "History", "text": text, "images": here},
            {"title": "Stub", "text": "short", "images": here},
            {"title": "Range", "text": f"{text} range", "images": gone},
        ]
        page = {"id": f"d{number}", "title": beast.title(), "url": f"wiki/{beast}", "sections": sections}
        lines.append(json.dumps(page))
    path = folder / "documents.jsonl"
    path.write_text("\n".join(lines))
    return path


def engine(folder: Path, url: str, **fields: Any) -> dict[str, Any]:
    writer = {"url": url, "model": "toy", "attempts": 1, "timeout": 5, "workers": 1, **fields.pop("writer", {})}
    base = {"fields": ["Zoology"], "documents": str(corpus(folder)), "per_topic": 1, "writer": writer}
    return {**base, **fields}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_topics_to_records(serve, tmp_path) -> None:
    server, out = serve(say), tmp_path / "written.jsonl"
    written = write(DataEngine.parse(engine(tmp_path, server.url)), out)
    assert len(server.asked) == 1 + 2 + 6
    assert (written.topics, written.documents) == (6, 6)  # the raven was named twice
    assert written.calls["questions"] == {"made": 6, "used": 6}
    assert written.pictures == {
        "asked about": 6, "skipped section": 6, "too little text beside it": 6, "missing or broken": 6,
    }  # fmt: skip
    records = lines(out)
    assert [record["provenance"]["title"] for record in records] == [
        "Heron",
        "Raven",
        "Lynx",
        "Otter",
        "Viper",
        "Walrus",
    ]
    first = records[0]["provenance"]
    assert first["topic"] == ["Zoology", "Birds", "heron"]
    assert (first["document"], first["record"], first["url"]) == ("d0", 1, "wiki/heron")
    assert (first["section"], first["caption"]) == ("Habits", "A heron at rest")
    assert (first["prompt"], first["model"]) == ("question-1", "toy")
    kept = {reply["digest"]: reply for reply in lines(tmp_path / "written.jsonl.replies.jsonl")}
    assert all(kept[record["provenance"]["reply"]]["time"] == record["provenance"]["time"] for record in records)
    assert first["time"].endswith("Z")
    assert first["file"] == str(tmp_path / "documents.jsonl")
    sample = LlavaJSON(path=out).open()[1]
    assert (sample.question, sample.answer) == (
        "\nWhat does the raven in the image eat?",
        "The raven eats what it finds.",
    )
    assert sample.images[0].size() == (70, 80)
    content = out.read_bytes()
    again = write(DataEngine.parse(engine(tmp_path, server.url)), out)
    assert len(server.asked) == 9  # everything was held
    assert again.calls["questions"] == {"held": 6, "used": 6}
    assert out.read_bytes() == content


def test_what_is_not_used_is_counted_and_listed(serve, tmp_path) -> None:
    replies = {
        "heron": "I would rather not.",
        "lynx": "Question: What does the caption say about the lynx?\nAnswer: That it rests.",
        "otter": "Question: What is it?\nAnswer: Nothing that anybody knows.",
        "raven": '```json\n{"question": "Why is the raven black?", "answer": "Its feathers hold melanin."}\n```',
        "viper": "Question: Eh?\nAnswer: A viper.",
        "walrus": 500,
    }

    def odd(prompt: str) -> str | int:
        beast = next((beast for beast in BEASTS if f'page "{beast.title()}"' in prompt), "")
        return replies[beast] if beast else say(prompt)

    server, out = serve(odd), tmp_path / "w.jsonl"
    written = write(DataEngine.parse(engine(tmp_path, server.url)), out)
    assert written.calls["questions"] == {"made": 5, "nonsense": 1, "dropped": 2, "used": 2, "failed": 1}
    assert written.reasons == {
        "speaks of the text that the reader does not see": 1, "shares no word with title and caption": 1,
    }  # fmt: skip
    assert written.passages[1].dropped == {"question of fewer than 3 words": 1}
    assert [record["provenance"]["title"] for record in lines(out)] == ["Raven"]
    (tmp_path / "w.jsonl.rejected.jsonl").replace(tmp_path / "mine")
    (tmp_path / "w.jsonl.rejected.jsonl").write_text("my notes")
    with pytest.raises(ConfigError, match=r"rejected\.jsonl: was changed since it was written"):
        write(DataEngine.parse(engine(tmp_path, server.url)), out)
    (tmp_path / "mine").replace(tmp_path / "w.jsonl.rejected.jsonl")
    rejected = {entry["why"]: entry["reply"] for entry in lines(tmp_path / "w.jsonl.rejected.jsonl")}
    assert rejected["no question with an answer"] == "I would rather not."
    assert rejected["failed"] == "toy: refused with status 500"
    assert len(rejected) == 4
    mended = serve(say)
    again = write(DataEngine.parse(engine(tmp_path, mended.url)), out)
    assert len(mended.asked) == 1  # only the call that failed; nonsense of a greedy writer stays nonsense
    assert (again.failed, [record["provenance"]["title"] for record in lines(out)]) == (0, ["Raven", "Walrus"])


def test_kill_nine_costs_the_call_on_its_way(serve, tmp_path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def slow(prompt: str) -> str:
        if 'page "Lynx"' in prompt and not go_on.is_set():
            reached.set()
            go_on.wait(30)
        return say(prompt)

    server, out = serve(slow), tmp_path / "w.jsonl"
    config = tmp_path / "engine.json"
    config.write_text(json.dumps(engine(tmp_path, server.url)))
    command = [sys.executable, "-m", "ommatidia.cli", "--json", "data", "engine", str(config), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        assert reached.wait(60), running.communicate()
        os.kill(running.pid, signal.SIGKILL)
    go_on.set()
    assert not out.exists()
    held = lines(tmp_path / "w.jsonl.replies.jsonl")
    assert len(held) == 1 + 2 + 2  # subfields, topics, heron and raven
    with (tmp_path / "w.jsonl.replies.jsonl").open("ab") as file:
        file.write(b'{"digest": "torn')
    write(DataEngine.parse(engine(tmp_path, server.url)), out)
    counts = Counter(server.asked)
    assert len(lines(out)) == 6
    assert [prompt for prompt, count in counts.items() if count > 1] == [p for p in counts if 'page "Lynx"' in p]
    assert len(server.asked) == 9 + 1
    assert len(lines(tmp_path / "w.jsonl.replies.jsonl")) == 9


def test_limits(serve, tmp_path) -> None:
    server, out = serve(say), tmp_path / "w.jsonl"
    written = write(DataEngine.parse(engine(tmp_path, server.url, most=2)), out)
    assert (len(lines(out)), written.documents, len(server.asked)) == (2, 2, 5)
    many = engine(tmp_path, server.url, writer={"workers": 4}, skip_sections=[], words_least=0)
    written = write(DataEngine.parse(many), out)
    assert written.pictures == {"asked about": 18, "missing or broken": 6}
    assert len(set(server.asked)) == len(server.asked)
    assert len(lines(out)) == 6  # the same image, question and answer once
    small = engine(tmp_path, server.url, side_least=71)
    assert write(DataEngine.parse(small), out).pictures["too small"] == 6
    assert out.read_bytes() == b""


def test_calls_keep_their_pace() -> None:
    pace, began = Pace(60 * 50), time.monotonic()
    for _ in range(6):
        pace.wait()
    assert 5 / 50 <= time.monotonic() - began < 1.0


def test_attempts_are_bounded_and_keep_the_pace(serve) -> None:
    server = serve(lambda prompt: 503)
    endpoint = Endpoint(server.url, "toy", attempts=4, pause=0.0, pace=Pace(60 * 20))
    began = time.monotonic()
    with pytest.raises(EndpointError, match="refused with status 503"):
        endpoint.ask("x")
    assert len(server.asked) == 4
    assert time.monotonic() - began >= 3 / 20


def test_nobody_there(tmp_path) -> None:
    dead = Replies(Endpoint("http://127.0.0.1:9", "toy", attempts=1, timeout=0.2), tmp_path / "r.jsonl")
    with pytest.raises(
        RunError, match="none of 8 questions to the model was answered; the last: toy: cannot be reached"
    ):
        dead.ask_all([str(n) for n in range(100)])
    assert isinstance(dead.ask_all(["one"])["one"], EndpointError)


def test_bad_input(tmp_path, monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"writer\.url"):
        DataEngine.parse(engine(tmp_path, "file:///etc"))
    config = engine(tmp_path, "http://127.0.0.1:9", writer={"key_variable": "NO_SUCH_KEY"})
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"writer\.key_variable: the environment has no NO_SUCH_KEY"):
        write(DataEngine.parse(config), tmp_path / "w.jsonl")
    (tmp_path / "documents.jsonl").write_text('{"id": 1, "title": "x", "sections": []}\n{"id": 2, "title": "y"}\n')
    with pytest.raises(DataError, match=r"documents\.jsonl, sample 'document 2': 'sections' is missing; expected id"):
        list(Documents(tmp_path / "documents.jsonl"))


def test_search_ranks_by_rare_words() -> None:
    index = Index(["the common heron", "a heron and a heron by the lake", "lake", "lake lake lake", "nothing"])
    assert index.find("heron on a lake", most=9) == [1, 0, 3, 2]
    assert index.find("heron", most=1) == [1]
    assert index.find("unknown the of", most=5) == []


def test_replies_are_read_strictly() -> None:
    assert read_list("Here are some topics:\n1. Bats\n2) **Owls**\n- bats\n\n(3) Red foxes.", most=9) == [
        "Bats",
        "Owls",
        "Red foxes",
    ]
    assert read_list("no\n" * 5, most=3) == ["no"]
    assert read_list("a b c d e f g h i j k", most=3) == []
    assert read_pair("Question: Why?\nAnswer: So.") == ("Why?", "So.")
    assert read_pair("**Question:** Why?\n\n**Answer:** So.\nAnd so.") == ("Why?", "So.\nAnd so.")
    assert read_pair('{\n "question": "Why?",\n "answer": "-5"\n}') == ("Why?", "-5")
    assert read_pair("Question: How cold?\nAnswer: -40 degrees.") == ("How cold?", "-40 degrees.")
    for nonsense in (
        "",
        "Why?",
        "Question: Why?",
        "Answer: So.",
        '{"question": "", "answer": "x"}',
        "[1]",
        "Question:\nAnswer:",
    ):
        assert read_pair(nonsense) is None, nonsense
    assert fault("Why is it red?", "I cannot see it.", beside="x", consistent=False) == "the writer refused"
    assert fault("Why red?", "Iron.", beside="Mars", consistent=False) == ""
