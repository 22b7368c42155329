"""Judges: rules first, replies kept, failures missing and counted, nothing by chance; with a server in the test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import datasets
import pytest
from published_fixtures import write

from ommatidia.core.config import digest, override
from ommatidia.core.errors import ConfigError, NoVerdictError, RunError
from ommatidia.eval import Benchmark, BenchmarkConfig, Scored, predict, score_file
from ommatidia.eval.judge import KEY, MODEL, URL, EndpointJudge, JudgeError, Replies
from ommatidia.eval.named_benchmarks import BENCHMARKS
from ommatidia.eval.scoring.judged import Verdict, averaged, option_of

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


class Server:
    """A chat endpoint that replies by a function of the prompt; None hangs until the test ends, bytes go out raw."""

    def __init__(self, reply: Callable[[str], str | bytes | int | None]) -> None:
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                prompt = body["messages"][0]["content"]
                assert (self.path, body["temperature"]) == ("/v1/chat/completions", 0)
                outer.asked.append(prompt)
                outer.keys.append(self.headers.get("Authorization"))
                said = reply(prompt)
                if said is None:
                    outer.over.wait()
                    return
                content = said if isinstance(said, bytes) else json.dumps({"choices": [{"message": {"content": said}}]})
                self.send_response(said if isinstance(said, int) else 200)
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else content.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def judge(self, **fields: object) -> EndpointJudge:
        return EndpointJudge(self.url, "toy-judge", **{"attempts": 1, "timeout": 0.2, **fields})  # type: ignore[arg-type]


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(reply: Callable[[str], str | bytes | int | None]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.over.set()
        server.server.shutdown()
        server.server.server_close()


def answered(name: str, data, answers: Callable[[int], str], **fields: object) -> tuple[Benchmark, object]:
    size = write(name, data)
    benchmark = BenchmarkConfig.parse({"kind": name, "data": data, "size": size, **fields}).open()
    place = {sample.id: n for n, sample in enumerate(benchmark.samples())}
    path = data / f"{name}.jsonl"
    predict(benchmark, lambda prompts: [answers(place[prompt.id]) for prompt in prompts], path)
    return benchmark, path


def test_mm_vet_is_graded_by_capability(serve, tmp_path):
    benchmark, path = answered("mm_vet", tmp_path, lambda n: ("14", "x is -1", "")[n])
    with pytest.raises(ConfigError, match=f"name an OpenAI-compatible endpoint in {URL} and {MODEL}"):
        score_file(benchmark, path)
    server = serve(lambda prompt: "1.0" if prompt.endswith("| 14 |") else " 0.5\n")
    scored = score_file(benchmark, path, judge=server.judge(key="secret"))
    assert scored.mean == pytest.approx((1.0 + 0.5 + 0.0) / 3)  # an empty answer is wrong without being asked about
    assert (scored.judge, scored.judged) == ("toy-judge", {"asked": 2, "failed": 0, "nonsense": 0})
    assert scored.summary["capability:ocr"] == pytest.approx(0.5)
    assert scored.summary["capability:math"] == scored.summary["combination:math,ocr"] == pytest.approx(0.25)
    assert set(server.keys) == {"Bearer secret"}
    assert any("x=-1 <AND> x=-5" in prompt for prompt in server.asked)
    assert all("\nWhat is x? | " in prompt for prompt in server.asked)  # without the words for the model
    assert Scored.from_dict(json.loads(json.dumps(scored.to_dict()))) == scored
    assert "secret" not in repr(server.judge(key="secret"))


def test_replies_are_kept(serve, tmp_path):
    benchmark, path = answered("mm_vet", tmp_path, lambda n: f"answer {n}")
    server = serve(lambda prompt: "0.3")
    first = score_file(benchmark, path, judge=server.judge())
    assert len(server.asked) == 3
    server.server.shutdown()
    again = score_file(benchmark, path, judge=server.judge())
    assert again == first
    kept = path.with_suffix(".judge.jsonl")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-9])  # torn by a kill: one reply is asked for again
    other = serve(lambda prompt: "0.3")
    assert score_file(benchmark, path, judge=other.judge()) == first
    assert len(other.asked) == 1
    said = [{n: json.loads(line)[n] for n in ("digest", "reply")} for line in kept.read_bytes().splitlines()]
    assert said == [{n: json.loads(line)[n] for n in ("digest", "reply")} for line in whole.splitlines()]
    kept.write_text("nonsense\n")
    with pytest.raises(RunError, match="line 1: not a judge's reply"):
        score_file(benchmark, path, judge=other.judge())


def test_time_outs_and_nonsense_are_missing_and_counted(serve, tmp_path, capsys):
    benchmark, path = answered("mm_vet", tmp_path, lambda n: f"answer {n}")
    slow = serve(lambda prompt: {"0": "0.8", "1": None, "2": "rather good"}[prompt.split(" | answer ")[1][0]])
    scored = score_file(benchmark, path, judge=slow.judge())
    assert scored.judged == {"asked": 3, "failed": 1, "nonsense": 1}
    assert (scored.n, scored.mean) == (1, 0.8)
    assert "2 of 3 answers have no verdict" in " ".join(capsys.readouterr().err.split())
    mended = serve(lambda prompt: "0.2")
    again = score_file(benchmark, path, judge=mended.judge())
    assert len(mended.asked) == 1  # only the call that failed; nonsense of a greedy judge stays nonsense
    assert (again.n, again.judged["failed"], again.judged["nonsense"]) == (2, 0, 1)


def test_without_any_verdict_there_is_no_score(serve, tmp_path):
    benchmark, path = answered("mm_vet", tmp_path, lambda n: f"answer {n}")
    with pytest.raises(NoVerdictError, match="mm_vet: not scored, no answer has a verdict; the last: toy-judge"):
        score_file(benchmark, path, judge=serve(lambda prompt: "rather good").judge())


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (500, "refused with status 500"),
        (b"<html>", "not in the form of a chat endpoint"),
        (b'{"choices": []}', "not in the form of a chat endpoint"),
        (b'{"choices": [{"message": {"content": null}}]}', "holds no text"),
        (None, "no reply within 0.2 s"),
    ],
)
def test_what_goes_wrong_is_named(serve, reply, cause):
    with pytest.raises(JudgeError, match=cause):
        serve(lambda prompt: reply).judge().ask("hello")


def test_it_is_asked_again_and_given_up(serve, tmp_path):
    replies = iter([500, 503, "0.5"])
    assert serve(lambda prompt: next(replies)).judge(attempts=3, pause=0.0).ask("x") == "0.5"
    dead = serve(lambda prompt: 500)
    with pytest.raises(RunError, match="none of 8 questions to the judge was answered"):
        Replies(dead.judge(), tmp_path / "r.jsonl").ask_all([str(n) for n in range(100)])
    assert len(dead.asked) <= 16
    dead.server.shutdown()
    dead.server.server_close()
    with pytest.raises(JudgeError, match="cannot be reached"):
        dead.judge().ask("x")


def test_llava_bench_is_a_ratio_of_means(serve, tmp_path):
    benchmark, path = answered("llava_bench", tmp_path, lambda n: f"answer {n}")
    grades = {"0": "8 10\nbecause", "1": "10 5", "2": "2, 4"}
    server = serve(lambda prompt: grades[prompt.split("answer ")[1][0]])
    scored = score_file(benchmark, path, judge=server.judge())
    assert scored.mean == pytest.approx((10 + 5 + 4) / (8 + 10 + 2))
    assert scored.summary["task:conv"] == pytest.approx(10 / 8)
    assert scored.interval.low <= scored.mean <= scored.interval.high
    assert "A yellow box." in server.asked[0]
    assert "A box that is yellow." in server.asked[0]
    for bad in ("8", "ten 9", "0 11", ""):
        sample = benchmark.samples()[0]
        assert benchmark.scorer.verdict(sample, "x", bad) is None  # type: ignore[attr-defined]


def test_repeated_runs_are_averaged(serve, tmp_path):
    benchmark, path = answered("mm_vet", tmp_path, lambda n: f"answer {n}")
    once = serve(lambda prompt: "0.2")
    first = score_file(benchmark, path, judge=once.judge())
    thrice = override(benchmark.config, "scorer.judge_runs", 3)
    assert thrice.digest() != benchmark.config.digest()
    assert override(thrice, "scorer.judge_runs", 1).digest() == benchmark.config.digest()
    assert thrice.questions_fingerprint() == benchmark.config.questions_fingerprint()
    asked: dict[str, int] = {}

    def moody(prompt: str) -> str:
        which = prompt.split(" | answer ")[1][0]
        asked[which] = asked.get(which, 0) + 1
        return {"0": "0.8", "1": ("0.5", "dunno")[asked[which] - 1], "2": "dunno"}[which]

    server = serve(moody)
    scored = score_file(thrice.open(), path, judge=server.judge())
    assert len(server.asked) == 6  # the first run's replies are kept
    assert scored.judge == "toy-judge, mean of 3 runs"
    assert scored.judged == {"asked": 9, "failed": 0, "nonsense": 3}
    assert [s.value for s in scored.scores] == pytest.approx([0.6, 0.35, 0.2])
    assert score_file(thrice.open(), path, judge=server.judge()) == scored
    assert len(server.asked) == 6
    assert score_file(benchmark, path, judge=server.judge()) == first
    with pytest.raises(ConfigError, match="judge_runs"):
        override(benchmark.config, "scorer.judge_runs", 0)


def test_averaged_ratios_stay_ratios_of_means():
    joined = averaged([Verdict(10 / 8, "8 10", weight=8.0), Verdict(1.0, None, weight=4.0)])
    assert (joined.value, joined.weight, joined.parsed) == (pytest.approx((10 + 4) / (8 + 4)), 6.0, "8 10")


def test_mmbench_asks_only_what_rules_cannot_read(serve, tmp_path):
    said = ("A", "It is the crimson one", "something else", "A")  # rows: 7, its rotation, 8, its rotation
    benchmark, path = answered("mmbench", tmp_path, lambda n: said[n])
    alone = score_file(benchmark, path)
    assert (alone.judge, alone.mean, alone.summary["unparsed"]) == ("rules", 0.0, 0.5)
    server = serve(lambda prompt: "B" if "crimson" in prompt else "Z")
    scored = score_file(benchmark, path, judge=server.judge())
    assert sorted("crimson" in prompt for prompt in server.asked) == [False, True]
    assert (scored.mean, scored.n, scored.summary["unparsed"]) == (0.5, 2, 0.25)
    path.with_suffix(".judge.jsonl").unlink()
    odd = serve(lambda prompt: "B" if "crimson" in prompt else "perhaps A, perhaps B")
    rest = score_file(benchmark, path, judge=odd.judge())
    assert (rest.n, rest.mean) == (1, 1.0)  # a question with a missing rotation is missing as a whole


def test_mathvista_extracts(serve, tmp_path):
    said = ("the second of the two", "no idea", "three")
    benchmark, path = answered("mathvista", tmp_path, lambda n: said[n])
    assert score_file(benchmark, path).mean == 0.0
    replies = {"the second": "8/11", "no idea": "NONE", "three": "3"}
    server = serve(
        lambda prompt: next(reply for words, reply in replies.items() if words in prompt.rpartition("Reply:")[2])
    )
    scored = score_file(benchmark, path, judge=server.judge())
    assert scored.mean == pytest.approx(2 / 3)
    assert scored.judged == {"asked": 3, "failed": 0, "nonsense": 0}


def test_the_environment_names_the_judge():
    assert EndpointJudge.from_environment({}) is None
    whole = {URL: "http://127.0.0.1:1/v1", MODEL: "m", KEY: "k"}
    assert EndpointJudge.from_environment(whole) == EndpointJudge("http://127.0.0.1:1/v1", "m", "k")
    with pytest.raises(ConfigError, match=f"{MODEL} is missing"):
        EndpointJudge.from_environment({URL: "http://x"})
    with pytest.raises(ConfigError, match="no http address"):
        EndpointJudge.from_environment({URL: "file:///etc", MODEL: "m"})


@pytest.mark.parametrize(
    ("reply", "letter"),
    [("B", "B"), (" (B).", "B"), ("Z", "Z"), ("C", None), ("b", None), ("B or A", None), ("", None)],
)
def test_a_letter_is_a_letter(reply, letter):
    assert option_of(reply, {"A": "red", "B": "blue"}) == letter


def test_the_official_words_may_be_given(serve, tmp_path):
    benchmark, path = answered("mm_vet", tmp_path, lambda n: f"answer {n} {{truth}}")
    words = tmp_path / "official.txt"
    words.write_text("Compare {truth} with {prediction} for {question}; a brace {like} this stays.")
    given = override(benchmark.config, "scorer.judge_prompt", f"@{words}")
    server = serve(lambda prompt: "0.5")
    scored = score_file(given.open(), path, judge=server.judge())
    # What a model says cannot open a place of the prompt.
    assert "Compare 14 with answer 0 {truth} for What is x?; a brace {like} this stays." in server.asked
    assert scored.judge == f"toy-judge, given {digest(words.read_text())[:8]} prompt"
    assert given.digest() != benchmark.config.digest()
    assert override(given, "scorer.judge_prompt", words.read_text()).digest() == given.digest()
    with pytest.raises(ConfigError, match=r"no place \{prediction\}; it needs question, truth, prediction"):
        override(benchmark.config, "scorer.judge_prompt", "{question} {truth}")
    with pytest.raises(ConfigError, match=r"nowhere\.txt: No such file"):
        override(benchmark.config, "scorer.judge_prompt", "@nowhere.txt")


@pytest.mark.parametrize(("name", "examples"), [("mm_vet", 5), ("mathvista", 5), ("mmbench", 2)])
def test_our_words_have_the_official_number_of_examples(name, examples):
    scorer = BenchmarkConfig.parse(BENCHMARKS[name]).scorer  # type: ignore[attr-defined]
    mark = "\n{question} |" if name == "mm_vet" else "\nQuestion: {question}"
    shown = scorer.words.partition(mark)[0]
    assert (
        sum(line.count(" | ") == 3 and line[-1].isdigit() for line in shown.splitlines()) + shown.count("\nQuestion: ")
        == examples
    )
    assert all(f"{{{field}}}" in scorer.words for field in scorer.fields)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_does_not_take_the_key_along(status, serve, monkeypatch):
    elsewhere = serve(lambda prompt: "0.5")
    server = serve(lambda prompt: "")
    handler = server.server.RequestHandlerClass
    reached: list[str | None] = []

    def redirect(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(status)
        self.send_header("Location", f"{elsewhere.url}/chat/completions")
        self.end_headers()

    monkeypatch.setattr(handler, "do_POST", redirect)
    got = elsewhere.server.RequestHandlerClass
    monkeypatch.setattr(got, "do_GET", lambda self: reached.append(self.headers.get("Authorization")), raising=False)
    with pytest.raises(JudgeError, match=rf"redirects to '{elsewhere.url}.*key would go with it"):
        server.judge(key="secret").ask("Is it right?")
    assert (elsewhere.asked, reached) == ([], [])
