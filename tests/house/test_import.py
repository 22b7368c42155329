"""Looking at the package costs nothing: ``import ommatidia`` and ``omma --help`` load no deep-learning library."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "transformers", "timm", "matplotlib", "datasets", "pandas", "scipy")
REPORT = f"import json, sys\nsys.stderr.write(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
HELP = f"""
import sys
sys.argv = ["omma", *{{arguments!r}}]
from ommatidia.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert not code, code
{REPORT}
"""


def loaded_by(code: str) -> tuple[list[str], str]:
    """(heavy modules loaded, stdout) of a fresh interpreter that runs ``code``."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1]), done.stdout


def test_importing_the_package_loads_nothing_heavy():
    heavy, _ = loaded_by(f"import ommatidia\nassert ommatidia.__version__\n{REPORT}")
    assert heavy == []


def test_plain_values_and_the_command_line_load_nothing_heavy():
    code = (
        "import importlib, pkgutil, ommatidia.cli, ommatidia.core\n"
        "for package in (ommatidia.cli, ommatidia.core):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
    )
    heavy, _ = loaded_by(code + REPORT)
    assert heavy == []


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    heavy, shown = loaded_by(HELP.format(arguments=arguments))
    assert heavy == []
    assert "omma" in shown.lower()


def test_public_names_exist():
    import ommatidia

    missing = [name for name in getattr(ommatidia, "__all__", ()) if not hasattr(ommatidia, name)]
    assert missing == []
