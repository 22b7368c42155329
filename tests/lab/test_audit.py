"""The audit asks in every mode, computes what guessing scores, and puts the vision gain beside each score."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_toys import benchmark, recipe

from ommatidia.core.errors import ConfigError
from ommatidia.eval.benchmark import BenchmarkConfig
from ommatidia.lab.analysis.audit import audit_checkpoint
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import save


def test_audit_end_to_end(tmp_path: Path):
    config = recipe("coarse").model
    folder = save(build_model(config, seed=1), config, tmp_path / "model")
    chosen = [BenchmarkConfig.parse(benchmark(name, "general")) for name in ("attributes", "counts")]
    told = audit_checkpoint(folder, chosen, out=tmp_path / "out", batch=8)
    data = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert set(data["benchmarks"]) == {"attributes", "counts"}
    for each in data["benchmarks"].values():
        assert each["vision_gain"]["mean"] == pytest.approx(each["full"]["mean"] - each["blind"]["mean"])
        assert each["vision_gain"]["low"] <= each["vision_gain"]["mean"] <= each["vision_gain"]["high"]
        assert each["blind_over_chance"] == pytest.approx(each["blind"]["mean"] - each["chance"])
    assert len(list((tmp_path / "out").glob("*.jsonl"))) == 8
    picture = (tmp_path / "out" / "audit.svg").read_text()
    assert "no images" in picture
    assert "random guess" in picture
    assert len(told.tables[0][2]) == 2


def test_a_blind_design_cannot_be_audited(tmp_path: Path):
    config = recipe().model
    folder = save(build_model(config, seed=1), config, tmp_path / "model")
    with pytest.raises(ConfigError, match="without encoders"):
        audit_checkpoint(folder, [], out=tmp_path / "out")
