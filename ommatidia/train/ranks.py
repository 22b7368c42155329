"""Ranks: the processes that compute one run together, and how they agree. One process is a world of one.

Started by ``torchrun``, by accelerate's launcher, or by anything that sets RANK, WORLD_SIZE, MASTER_ADDR and
MASTER_PORT (LOCAL_RANK and LOCAL_WORLD_SIZE where a node has several).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.train.board import RankNotes
from ommatidia.train.watchdog import RanksError, Watchdog

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

_JOIN = 600.0
"""Seconds that ranks wait for one another at the start, before any stage has said how long."""
_GRACE = 60.0
"""Seconds that the other ranks have to fail as this one did, before it counts as having failed alone."""
_LONG = 7 * 24 * 3600.0
"""Seconds: as good as for ever. The watchdog judges who is late, by the stage's own ``engine.timeout``."""


@dataclass(eq=False)
class Ranks:
    """This process among those of the run."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    board: RankNotes = field(default_factory=RankNotes)
    watchdog: Watchdog | None = None
    """None: there is nobody else to watch."""
    _told: int = 0
    _met: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes what all of them share."""
        return self.rank == 0

    def device(self, wanted: str | torch.device) -> torch.device:
        """``cuda`` means this process's own GPU of the node. Raises ConfigError when the node has too few."""
        device = torch.device(wanted)
        if device.type != "cuda" or self.world == 1:
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"device {str(wanted)!r}: rank {self.rank} is number {self.local_rank} of its node, which has "
                f"{torch.cuda.device_count()} GPUs; start at most so many processes a node"
            )
        return torch.device("cuda", self.local_rank)

    def gather(self, value: T) -> list[T]:
        """What each rank brought, in rank order. All ranks must call it. Raises RanksError when one is gone."""
        if self.world == 1:
            return [value]
        self._met += 1
        if self.watchdog is not None:
            self.watchdog.mark("waiting for the other ranks", meeting=self._met)
        values: list[Any] = [None] * self.world
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise self.diagnose(error) from error
        self.mark("computing")
        return values

    def broadcast(self, value: T) -> T:
        """Rank 0's value on all ranks, however long rank 0 takes. It must be plain data."""
        key, self._told = f"told/{self._told}", self._told + 1
        if self.leads:
            self.board.post(key, [value])
            return value
        return self.board.wait(key, limit=_LONG, meanwhile=self._patience)[0]

    def outcome(self, failure: tuple[str, str] | None, *, together: bool) -> tuple[str, str] | None:
        """How a job ended that rank 0 did, or all ranks ``together``: the first failure, or None.

        Raises RanksError when only some ranks failed: the others may be anywhere.
        """
        if not together or self.world == 1:
            found = self.broadcast(None if failure is None else list(failure))
            return None if found is None else (found[0], found[1])
        key, self._told = f"outcome/{self._told}", self._told + 1
        self.board.post(f"{key}/{self.rank}", [failure])
        ends = []
        for other in range(self.world):
            end = self.board.wait(
                f"{key}/{other}", limit=_LONG if failure is None else _GRACE, meanwhile=self._patience
            )
            ends.append((other, None if end is None else end[0]))
        failed = [(other, end) for other, end in ends if end is not None]
        if not failed:
            return None
        if len(failed) < self.world:
            other, end = failed[0]
            if self.watchdog is not None and other == self.rank:
                self.watchdog.raise_alarm(end[0])
            raise RanksError(f"rank {other} failed alone: {end[0]}")
        return failed[0][1][0], failed[0][1][1]

    def share(self, items: int) -> range:
        """Which of ``items`` numbered things are this rank's: they go round."""
        return range(self.rank, items, self.world)

    def mesh(self, device: torch.device, replicas: int) -> DeviceMesh:
        """``replicas`` groups of ranks, each holding the whole between them. Raises ConfigError if they do not go in.

        Its dimensions are "replicate" and "shard"; with one group there is only "shard".
        """
        if self.world % replicas:
            raise ConfigError(f"engine.replicas: {replicas} groups of equal size cannot be made of {self.world} ranks")
        return _mesh(device.type, self.world, replicas)

    def mark(self, place: str) -> None:
        """Tell the watchdog that this rank got on."""
        if self.watchdog is not None:
            self.watchdog.mark(place)

    def touch(self) -> None:
        """Tell the watchdog that this rank waits for something that is not another rank: a disk, a long job."""
        if self.watchdog is not None:
            self.watchdog.touch()

    def check(self) -> None:
        """Raises RanksError when another rank has said that it failed."""
        if self.watchdog is not None and (alarm := self.watchdog.alarm()) is not None:
            raise RanksError(alarm)

    def diagnose(self, error: BaseException) -> BaseException:
        """What to raise for an error that may come from a rank that is gone: a RanksError naming it, or the error.

        In the second case the other ranks are told that this one failed.
        """
        if self.watchdog is None or isinstance(error, RanksError):
            return error
        lost = self.watchdog.lost()
        if lost is not None:
            return RanksError(lost)
        self.watchdog.raise_alarm(f"{type(error).__name__}: {error}")
        return error

    def _patience(self) -> None:
        self.touch()
        self.check()

    @contextlib.contextmanager
    def working(self, timeout: float) -> Iterator[None]:
        """Inside, a rank that keeps the others waiting for ``timeout`` seconds ends the job, and an error that this
        rank has alone is told to them. Raises RanksError in place of what a broken collective says."""
        with self.watchdog.limit(timeout) if self.watchdog is not None else contextlib.nullcontext():
            try:
                yield
            except Exception as error:
                alone = not getattr(error, "everywhere", False)
                if alone and (explained := self.diagnose(error)) is not error:
                    raise explained from error
                raise

    def require_same_on_all_ranks(self, what: str, value: Mapping[str, Any]) -> None:
        """Raises RunError, on all ranks, where ranks differ in ``value``."""
        from ommatidia.train.checkpoint import differences

        everyone = self.gather(dict(value))
        for rank, other in enumerate(everyone):
            if found := list(differences(everyone[0], other)):
                told = "; ".join(line.replace(", now ", f" on rank 0 and on rank {rank} ", 1) for line in found)
                raise raise_on_all(RunError(f"{what}: the ranks were started on different runs: {told}"))


def raise_on_all(error: E) -> E:
    """Mark an error that every rank raises alike, so that rank 0 alone says it."""
    error.everywhere = True  # type: ignore[attr-defined]
    return error


@lru_cache(maxsize=16)
def _mesh(kind: str, world: int, replicas: int) -> DeviceMesh:
    if replicas == 1:
        return init_device_mesh(kind, (world,), mesh_dim_names=("shard",))
    return init_device_mesh(kind, (replicas, world // replicas), mesh_dim_names=("replicate", "shard"))


_current: ContextVar[Ranks | None] = ContextVar("ranks", default=None)


def ranks() -> Ranks:
    """The ranks this process joined; a world of one where it joined none."""
    return _current.get() or Ranks()


@contextlib.contextmanager
def process_group(environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Meet the other processes of this run, if the environment speaks of any, and part at the end.

    Raises ConfigError for an environment that contradicts itself or the other ranks', RanksError naming those that
    did not come.
    """
    rank, world = _number(environment, "RANK", 0), _number(environment, "WORLD_SIZE", 1)
    if world == 1 or _current.get() is not None:
        yield ranks()
        return
    if not 0 <= rank < world:
        raise ConfigError(f"RANK is {rank} and WORLD_SIZE {world}; ranks count from 0 to {world - 1}")
    local_rank, local_world = _number(environment, "LOCAL_RANK", 0), _number(environment, "LOCAL_WORLD_SIZE", 1)
    store, notes = _stores(environment, rank)
    board = RankNotes(notes)
    people = _meet(board, rank, world)
    cuda = torch.cuda.is_available()
    if cuda and local_rank < torch.cuda.device_count():
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=store,
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=_LONG),
    )
    watchdog = Watchdog(board, rank, people)
    value = Ranks(rank, world, local_rank, local_world, board, watchdog)
    token = _current.set(value)
    try:
        with watchdog:
            yield value
            _part(board, rank, world)
    except BaseException as error:
        if not getattr(error, "everywhere", False) and not isinstance(error, RanksError):
            watchdog.raise_alarm(str(error) or type(error).__name__)
        raise
    finally:
        _current.reset(token)
        _mesh.cache_clear()
        dist.destroy_process_group()


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"the environment's {name} is {text!r}; expected a whole number") from None


def _stores(environment: Mapping[str, str], rank: int) -> tuple[dist.Store, dist.Store]:
    """Two clients of one store: torch's own, which may block, and ours, which never does."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing:
        raise ConfigError(f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {' and '.join(missing)} not set")
    host, port = environment["MASTER_ADDR"], _number(environment, "MASTER_PORT", 0)
    # torchrun keeps the store in its own process, which outlives every rank.
    hosts = rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    life = environment.get("TORCHELASTIC_RESTART_COUNT", "0")

    def client(hosts: bool) -> dist.Store:
        return dist.TCPStore(host, port, None, hosts, timedelta(seconds=_JOIN), wait_for_workers=False)

    try:
        first = client(hosts)
        return dist.PrefixStore(f"torch/{life}", first), dist.PrefixStore(f"ommatidia/{life}", client(False))
    except (RuntimeError, ValueError) as error:
        raise RunError(f"rank {rank}: no meeting point at {host}:{port}: {str(error).splitlines()[0]}") from None


def _meet(board: RankNotes, rank: int, world: int) -> list[str]:
    """Who the ranks are, by rank: host and process."""
    me = f"process {os.getpid()} on {platform.node()}"
    if board.claim(f"rank/{rank}") > 1:
        raise ConfigError(f"two processes say that they are rank {rank}; {me} is one of them")
    board.post(f"here/{rank}", [world, me])
    people = []
    for other in range(world):
        found = board.wait(f"here/{other}", limit=_JOIN)
        if found is None:
            raise RanksError(f"rank {other} of {world} did not come within {_JOIN:.0f} s")
        if found[0] != world:
            raise raise_on_all(
                ConfigError(
                    f"the ranks disagree about their number: WORLD_SIZE is {world} for rank {rank} and {found[0]} for "
                    f"rank {other} ({found[1]})"
                )
            )
        people.append(found[1])
    return people


def _part(board: RankNotes, rank: int, world: int) -> None:
    """Say goodbye; rank 0, which may host the store, goes last."""
    board.post(f"done/{rank}", True)
    for other in range(world if rank == 0 else 0):
        board.wait(f"done/{other}", limit=30.0)


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """The random generator's seed for one step: a function of these numbers and nothing else."""
    words = f"{seed}:{step}" if rank == 0 else f"{seed}:{step}:{rank}"
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big") >> 1
