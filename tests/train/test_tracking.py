"""Curves in TensorBoard and W&B: beside a result, without a gap or a step told twice, asked for before the start."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from train_toy import Toy, stage, trainer

from ommatidia.core.errors import ConfigError, DiskError
from ommatidia.train.metrics import MetricsLog, read_metrics
from ommatidia.train.tracking import Tracking, check_trackers, read_destinations, write_curves


class Hub(ModuleType):
    """What of the wandb package is called here: runs by id, each with what was logged to it, in order."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.opened: list[dict[str, Any]] = []
        self.logged: list[tuple[str, int, dict[str, float]]] = []
        self.api = SimpleNamespace(api_key=None)
        self.finished = 0

    def init(self, **options: Any) -> Any:
        self.opened.append(options)

        def log(data: dict[str, float], *, step: int) -> None:
            self.logged.append((options["id"], step, data))

        def finish() -> None:
            self.finished += 1

        return SimpleNamespace(log=log, finish=finish)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setitem(sys.modules, "wandb", made)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return made


def curve(folder: Path, name: str = "loss") -> list[tuple[int, float]]:
    """Every point that the event files of a folder hold, in the order in which they lie there."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    events = [event for path in sorted(folder.glob("events.*")) for event in EventFileLoader(str(path)).Load()]
    points = [(event.step, one) for event in events for one in event.summary.value if one.tag == name]
    return [(step, float(make_ndarray(one.tensor))) for step, one in points]


def break_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when this step is to be written."""
    plain = MetricsLog.write

    def write(self: MetricsLog, report: Any) -> None:
        if report.step == step:
            raise DiskError("no room")
        plain(self, report)

    monkeypatch.setattr(MetricsLog, "write", write)


def test_an_interrupted_run_is_one_curve(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints at 4 and 8, the end at 11, curves every two steps: broken at 7, steps 5 and 6 are trained twice."""
    tracking = Tracking(tmp_path / "tracking", ("wandb",), "toy of seed 3")
    value = stage(steps=11, log_every=2, save_every=4)
    with monkeypatch.context() as broken:
        break_at(7, broken)
        with pytest.raises(DiskError):
            trainer(Toy(), tmp_path / "work", value, tracking=tracking).fit()
    assert [step for _, step, _ in hub.logged] == [2, 4, 6]
    trainer(Toy(), tmp_path / "work", value, tracking=tracking).fit()
    assert [step for _, step, _ in hub.logged] == [2, 4, 6, 8, 10, 11]
    trainer(Toy(), tmp_path / "work", value, tracking=tracking).fit()  # everything is done
    losses = {report.step: report.loss for report in read_metrics(tmp_path / "work" / "metrics.jsonl")}
    assert [(step, data["loss"]) for _, step, data in hub.logged] == [(n, losses[n]) for n in (2, 4, 6, 8, 10, 11)]
    assert {one["id"] for one in hub.opened} == {name for name, _, _ in hub.logged}
    assert hub.finished == len(hub.opened) == 3


def test_event_files_hold_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    tracking = Tracking(tmp_path / "tracking", ("tensorboard",), "toy of seed 3")
    value = stage(steps=11, log_every=2, save_every=4)
    with monkeypatch.context() as broken:
        break_at(7, broken)
        with pytest.raises(DiskError):
            trainer(Toy(), tmp_path / "work", value, tracking=tracking).fit()
    trainer(Toy(), tmp_path / "work", value, tracking=tracking).fit()
    reports = {report.step: report for report in read_metrics(tmp_path / "work" / "metrics.jsonl")}
    place = tmp_path / "tracking" / "tensorboard" / "toy-of-seed-3"
    points = curve(place)
    assert [step for step, _ in points] == [2, 4, 6, 8, 10, 11]
    assert [loss for _, loss in points] == pytest.approx([reports[step].loss for step, _ in points])
    assert [norm for _, norm in curve(place, "gradient_norm/projector")] == pytest.approx(
        [reports[step].norms["projector"] for step, _ in points]
    )


def test_a_finished_training_is_drawn_once_from_what_it_kept(tmp_path: Path, hub: Hub) -> None:
    trainer(Toy(), tmp_path / "work", stage(steps=5)).fit()
    reports = read_metrics(tmp_path / "work" / "metrics.jsonl")
    reports[2] = replace(reports[2], validation=0.25)
    tracking = Tracking(tmp_path / "tracking", ("wandb",), "again")
    for _ in range(2):
        write_curves(tracking, reports=reports, every=2)
    assert [(step, data.get("validation loss")) for _, step, data in hub.logged] == [
        (2, None),
        (3, 0.25),
        (4, None),
        (5, None),
    ]
    write_curves(Tracking(tmp_path / "other", ("wandb",), "again"), reports=[], every=2)
    assert len(hub.opened) == 1


@pytest.mark.parametrize(
    ("mode", "key", "given"), [(None, None, "offline"), ("online", None, None), (None, "of a user", None)]
)
def test_nothing_leaves_the_machine_unless_its_user_wants_it(
    mode: str | None, key: str | None, given: str | None, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.api.api_key = key
    if mode is not None:
        monkeypatch.setenv("WANDB_MODE", mode)
    trainer(Toy(), tmp_path / "work", stage(steps=1), tracking=Tracking(tmp_path, ("wandb",), "toy")).fit()
    (opened,) = hub.opened
    assert opened["mode"] == given
    assert opened["dir"] == str(tmp_path / "wandb" / "toy")


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_its_command(name: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"needs the package '{name}': pip install 'ommatidia\[{name}\]'"):
        check_trackers([name])
    assert read_destinations(name) == (name,)  # the package is asked for with everything else that a run needs
    check_trackers([])


def test_trackers_are_read_by_name(hub: Hub) -> None:
    assert read_destinations("wandb") == ("wandb",)
    assert read_destinations(" wandb, wandb,") == ("wandb",)
    assert read_destinations("") == ()
    with pytest.raises(ConfigError, match="unknown tracker 'wanbd'; did you mean 'wandb'"):
        read_destinations("wanbd")


def test_a_stage_may_name_its_own(tmp_path: Path, hub: Hub) -> None:
    trainer(Toy(), tmp_path, stage(steps=1, engine={"log": ["wandb"]})).fit()
    assert hub.opened[0]["dir"] == str(tmp_path / "tracking" / "wandb" / "toy")
