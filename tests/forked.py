"""Programs in processes of their own that start at once: forked from a server in which the libraries wait, imported.

Nothing of ours waits there: a program still brings along what it needs. Where an import itself is under test, start an
interpreter instead.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType

LIBRARIES = [
    "torch.distributed.tensor",
    "transformers.models.llama.modeling_llama",
    "timm",
    "peft",
    "matplotlib.pyplot",
]


def server() -> ForkServerContext:
    """Starts processes with the libraries imported; of whatever module their target is, that is imported there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    forkserver.ensure_running()
    return context


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended (negative: by that signal) and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Program(AbstractContextManager["Program"]):
    """A running ``python PROGRAM ARGUMENTS``: a script's path, or a module's name behind ``-m``. Killed on exit."""

    def __init__(self, *command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None):
        self._said = tempfile.TemporaryDirectory()
        told = (tuple(map(str, command)), str(cwd or Path.cwd()), {"OMP_NUM_THREADS": "1", **(environment or {})})
        self.process = server().Process(target=_program, args=(*told, self._said.name))
        self.process.start()

    def alive(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()

    def wait(self, timeout: float = 120.0) -> Done:
        """Its end; past ``timeout`` seconds it is killed."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        said = [path.read_text() if path.exists() else "" for path in map(Path(self._said.name).joinpath, _STREAMS)]
        return Done(int(self.process.exitcode or 0), *said)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.join()
        self._said.cleanup()


def run(*command: str | Path, cwd: Path | None = None, timeout: float = 120.0) -> Done:
    """A program to its end."""
    with Program(*command, cwd=cwd) as program:
        return program.wait(timeout)


def ranks(world: int, *command: str | Path, cwd: Path | None = None, timeout: float = 240.0) -> list[Done]:
    """One program as so many ranks of this machine, without a launcher that would watch over them."""
    with ProcessPoolExecutor(1, server()) as pool:  # tests themselves may open no socket
        port = pool.submit(_free_port).result()
    meet = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    with ExitStack() as stack:
        started = [
            stack.enter_context(Program(*command, cwd=cwd, environment={**meet, **dict.fromkeys(_NUMBERS, str(rank))}))
            for rank in range(world)
        ]
        return [program.wait(timeout) for program in started]


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


_NUMBERS = ("RANK", "LOCAL_RANK")
_STREAMS = ("stdout", "stderr")


def _program(command: tuple[str, ...], cwd: str, environment: dict[str, str], said: str) -> None:
    os.environ.update(environment)
    os.chdir(cwd)
    for number, name in enumerate(_STREAMS, start=1):
        os.dup2(os.open(Path(said) / name, os.O_WRONLY | os.O_CREAT), number)
    if command[0] == "-m":
        sys.argv = list(command[1:])
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        sys.path.insert(0, str(Path(command[0]).resolve().parent))
        runpy.run_path(command[0], run_name="__main__")
