"""The analyses on the command line: tables on stdout, JSON where asked, one clear line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab_toys import benchmark, recipe
from typer.testing import CliRunner

from ommatidia import cli
from ommatidia.core.errors import ConfigError
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import save

PUBLISHED = Path(__file__).parents[1] / "eval" / "published_scores.csv"


def omma(*arguments: object) -> str:
    """What a command prints. Errors come as they are raised."""
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_groups(tmp_path):
    data = json.loads(omma("--json", "groups", PUBLISHED, "--out", tmp_path, "--layout", "eagle"))
    assert data["averages"]["SAM H"]["vision_centric"] == pytest.approx((1.33 + 46.80) / 2)
    with pytest.raises(ConfigError, match="did you mean 'spearman'"):
        omma("groups", PUBLISHED, "--out", tmp_path, "--method", "spearmen")


def test_ablate_and_audit(tmp_path):
    config = recipe("coarse", "fine").model
    folder = save(build_model(config, seed=1), config, tmp_path / "model")
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps([benchmark("attributes", "general")]))
    options = ("--benchmarks", asked, "--limit", 6, "--batch", 8)
    data = json.loads(omma("--json", "ablate", folder, *options, "--out", tmp_path / "a", "--most", 1))
    assert set(data["treatments"]["zero"]["attributes"]["left"]) == {"coarse", "fine"}
    data = json.loads(omma("--json", "audit", folder, *options, "--out", tmp_path / "b"))
    assert "vision_gain" in data["benchmarks"]["attributes"]
    with pytest.raises(ConfigError, match="channel_concat cannot do without coarse"):
        omma("ablate", folder, *options, "--out", tmp_path / "c", "--by", "remove")
