"""A paid endpoint: pool, Retry-After, tokens, cost and caps; and an output that is never replaced by less."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ommatidia.core.endpoint import CapReachedError, Endpoint, EndpointError, Pace, Replies, Reply, read_retry_after
from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.file_lock import only_writer
from ommatidia.core.spending import Ledger, Prices, Tokens
from ommatidia.data.data_engine import DataEngine, write
from ommatidia.lab.data.curating import run_engine

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

Respond = Callable[[str], tuple[int, dict[str, str], dict[str, Any]]]


def said(text: str, **usage: int) -> tuple[int, dict[str, str], dict[str, Any]]:
    return 200, {}, {"choices": [{"message": {"content": text}}], **({"usage": usage} if usage else {})}


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], str]]:
    servers: list[ThreadingHTTPServer] = []

    def start(respond: Respond) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, reply = respond(body["messages"][0]["content"])
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(json.dumps(reply).encode())

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_slow_question_holds_up_no_other(serve, tmp_path) -> None:
    others = threading.Event()
    answered: list[str] = []

    def respond(prompt: str) -> Any:
        if prompt == "slow":
            assert others.wait(20)  # only comes when the others went on meanwhile
        else:
            answered.append(prompt)
            if len(answered) == 9:
                others.set()
        return said(prompt)

    replies = Replies(Endpoint(serve(respond), "toy", attempts=1), tmp_path / "r.jsonl", workers=2)
    prompts = ["slow", *map(str, range(9))]
    assert [(p, r.text) for p, r in replies.stream(prompts) if isinstance(r, Reply)] == [(p, p) for p in prompts]


def test_retry_after_is_waited(serve) -> None:
    came: list[float] = []

    def respond(prompt: str) -> Any:
        came.append(time.monotonic())
        return (429, {"Retry-After": "1"}, {}) if len(came) == 1 else said("yes")

    assert Endpoint(serve(respond), "toy", attempts=2, pause=0.0, pace=Pace(float("inf"))).ask("x") == "yes"
    assert came[1] - came[0] >= 1.0
    far = Endpoint(serve(lambda prompt: (429, {"Retry-After": "86400"}, {})), "toy", attempts=5, pause=0.0)
    with pytest.raises(EndpointError, match=r"refused with status 429; it wants to be asked again in 86400 s"):
        far.ask("x")


def test_retry_after_in_all_its_forms() -> None:
    assert read_retry_after("120") == 120.0
    assert read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert [read_retry_after(text) for text in (None, "", "soon", "-3")] == [None] * 4


def test_tokens_and_cost_are_kept_and_capped(serve, tmp_path) -> None:
    asked: list[str] = []

    def respond(prompt: str) -> Any:
        asked.append(prompt)
        return said("four", prompt_tokens=100, completion_tokens=50)

    path, prices = tmp_path / "spent.jsonl", Prices(question=10.0, answer=20.0)
    url = serve(respond)
    ledger = Ledger(path, prices=prices, answer_most=50, tokens_most=400)
    endpoint = Endpoint(url, "toy", attempts=3, ledger=ledger, answer_most=50)
    for prompt in "ab":
        endpoint.ask(prompt)
    assert ledger.spent == Tokens(200, 100)
    assert ledger.cost == pytest.approx(200 * 10e-6 + 100 * 20e-6)
    endpoint.ask("c")  # 300 + 1 + 50 expected
    with pytest.raises(CapReachedError, match=r"not asked; tokens_most of 400 is reached \(450 are spent\)"):
        endpoint.ask("d")
    assert asked == ["a", "b", "c"]
    again = Ledger(path, prices=prices, cost_most=0.006)  # an earlier run's calls count
    assert again.spent == Tokens(300, 150)
    with pytest.raises(CapReachedError, match=r"cost_most of 0\.006 is reached \(0\.006 is spent\)"):
        Endpoint(url, "toy", ledger=again).ask("e")


def test_tokens_are_estimated_where_the_endpoint_is_silent(serve, tmp_path) -> None:
    ledger = Ledger(tmp_path / "s.jsonl")
    Endpoint(serve(lambda prompt: said("x" * 41)), "toy", ledger=ledger).ask("12345678")
    assert ledger.spent == Tokens(2, 11)
    assert ledger.estimate(["1234", "1"]) == Tokens(2, 22)


def config(folder: Path, url: str, **writer: Any) -> dict[str, Any]:
    Image.new("RGB", (80, 80)).save(folder / "owl.png")
    section = {"title": "Habits", "text": "owl " * 60, "images": [{"path": "owl.png", "caption": "An owl"}]}
    document = {"id": "d", "title": "Owl", "sections": [section]}
    (folder / "documents.jsonl").write_text(json.dumps(document))
    base = {"url": url, "model": "toy", "attempts": 1, "timeout": 5, **writer}
    return {"fields": ["Zoology"], "documents": str(folder / "documents.jsonl"), "writer": base}


def write_owl(prompt: str) -> Any:
    if "page" not in prompt:
        return said("owl")
    return said("Question: What does the owl eat at night?\nAnswer: The owl eats mice.")


def test_an_output_is_never_replaced_by_less(serve, tmp_path) -> None:
    out, file = tmp_path / "o.jsonl", tmp_path / "engine.json"
    write(DataEngine.parse(config(tmp_path, serve(write_owl))), out)
    content = out.read_bytes()
    assert content
    file.write_text(json.dumps(config(tmp_path, "http://127.0.0.1:9", model="other")))
    told = run_engine(file, out)
    assert (told.status, told.data["records"], told.data["kept_output"]) == (4, 1, True)
    assert out.read_bytes() == content
    fresh = run_engine(file, tmp_path / "new.jsonl")
    assert (fresh.status, (tmp_path / "new.jsonl").exists()) == (4, False)


def test_a_cap_leaves_questions_for_the_next_run(serve, tmp_path) -> None:
    out, file, url = tmp_path / "o.jsonl", tmp_path / "engine.json", serve(write_owl)
    file.write_text(json.dumps(config(tmp_path, url, tokens_most=300, answer_tokens_most=100)))
    told = run_engine(file, out)
    assert (told.status, told.data["calls"]["questions"], out.exists()) == (4, {"over the cap": 1}, False)
    file.write_text(json.dumps(config(tmp_path, url)))
    assert run_engine(file, out).data["records"] == 1
    with pytest.raises(ConfigError, match="cost_most: needs question_price or answer_price"):
        DataEngine.parse(config(tmp_path, url, cost_most=1.0))


def test_the_output_is_ours_and_ours_alone(serve, tmp_path) -> None:
    engine, out = DataEngine.parse(config(tmp_path, serve(write_owl))), tmp_path / "o.jsonl"
    with only_writer(tmp_path / "o.jsonl.replies.jsonl"), pytest.raises(RunError, match="another process is writing"):
        write(engine, out)
    out.write_text("mine\n")
    with pytest.raises(ConfigError, match="a file that we did not write"):
        write(engine, out)
    assert out.read_text() == "mine\n"
    out.unlink()
    write(engine, out)
    out.write_bytes(out.read_bytes().replace(b"mice", b"rats"))
    with pytest.raises(ConfigError, match=r"o\.jsonl: was changed since it was written; nothing is replaced"):
        write(engine, out)
