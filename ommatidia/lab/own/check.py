"""``omma check-part``: the contract of every part that a user's module declares, check by check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ommatidia.core.command_result import CommandResult
from ommatidia.core.config import Config
from ommatidia.core.errors import ConfigError
from ommatidia.core.outside_parts import import_module
from ommatidia.core.source import SourceConfig
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.eval.scoring.scorer import ScorerConfig
from ommatidia.lab.own.answering_contract import BenchmarkContract, ScorerContract, SourceContract
from ommatidia.lab.own.contract import Contract, ContractError
from ommatidia.lab.own.encoder_contract import EncoderContract
from ommatidia.lab.own.joining_contract import JoiningContract
from ommatidia.lab.own.strategy_contract import StrategyContract
from ommatidia.lab.search.strategy import Strategy
from ommatidia.models.fusion import FusionConfig
from ommatidia.models.projector import ProjectorConfig
from ommatidia.models.vision import EncoderConfig

CONTRACTS: dict[type[Config], Callable[[Any], Contract]] = {
    EncoderConfig: EncoderContract,
    FusionConfig: JoiningContract.of_fusion,
    ProjectorConfig: JoiningContract.of_projector,
    SourceConfig: SourceContract,
    ScorerConfig: ScorerContract,
    BenchmarkConfig: BenchmarkContract,
    Strategy: StrategyContract,
}
"""By family: its contract, made of one small config."""


def declared_kinds(module: str) -> Iterator[tuple[type[Config], str, type[Config]]]:
    """Family, kind and class of the parts with a contract that a module declares."""
    for family in CONTRACTS:
        for kind, member in family.kinds().items():
            if member.__module__ == module:
                yield family, kind, member


def check_parts(name: str) -> CommandResult:
    """Import a module and check every part that it declares; the status is 1 where a check fails.

    Raises ConfigError where it cannot be imported or declares no part that has a contract.
    """
    module = import_module(name).__name__
    found = list(declared_kinds(module))
    if not found:
        families = ", ".join(family.__name__ for family in CONTRACTS)
        raise ConfigError(f"{name}: it declares no part with a contract; expected a subclass of {families}")
    result = CommandResult(data={"parts": []})
    rows = []
    for family, kind, member in found:
        told = dict(run_contract(family, member))
        result.data["parts"].append({"family": family.__name__, "kind": kind, "checks": told})
        rows += [[kind, promise, problem or "kept"] for promise, problem in told.items()]
    broken = [row for row in rows if row[2] != "kept"]
    result.tables = [("contract", ("kind", "promise", "found"), rows)]
    result.lines = [f"{Path(name).name}: {len(rows) - len(broken)} of {len(rows)} promises kept"]
    result.status = int(bool(broken))
    return result


def run_contract(family: type[Config], member: type[Config]) -> Iterator[tuple[str, str | None]]:
    """Every promise, and None where it is kept, or what is wrong."""
    tiny = getattr(member, "tiny", None)
    needed = [name for name, field in member.model_fields.items() if field.is_required()]
    if tiny is None and needed:
        lacking = f"{member.__name__} has no default for {', '.join(needed)}: give it a classmethod tiny()"
        yield "it has a small example", f"{lacking} that returns a small config"
        return
    made = list[Contract]()
    problem = _problem(lambda: made.append(CONTRACTS[family]((tiny or member)())))
    if problem is not None:
        yield "its small example can be made", problem
        return
    for promise, check in made[0].checks().items():
        torch.manual_seed(0)
        yield promise, _problem(partial(check, made[0]))


def _problem(call: Callable[[], object]) -> str | None:
    """What a call says is wrong; a user's part may raise anything."""
    try:
        call()
    except ContractError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - it goes into the table
        return f"{type(error).__name__}: {error}"
    return None
