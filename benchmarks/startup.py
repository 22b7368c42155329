"""Seconds from typing ``omma --help`` to its last line, in a new process each time. Prints JSON.

python -m benchmarks.startup [--rounds 5]

Also states whether the command line had imported torch by then, which is what would make it slow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

TARGET = 2.0
HEAVY = ("torch", "transformers", "timm", "numpy", "pandas", "matplotlib")
LOADED = f"import sys, ommatidia.cli; print(*[name for name in {HEAVY} if name in sys.modules])"


def seconds(code: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *code], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    helps = [seconds(["-m", "ommatidia.cli", "--help"]) for _ in range(given.rounds)]
    imports = [seconds(["-c", "import ommatidia"]) for _ in range(given.rounds)]
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout.split()
    result = {
        "help_best_s": round(min(helps), 3),
        "help_median_s": round(statistics.median(helps), 3),
        "import_median_s": round(statistics.median(imports), 3),
        "bare_python_s": round(min(seconds(["-c", ""]) for _ in range(given.rounds)), 3),
        "target_s": TARGET,
        "heavy_imports": loaded,
    }
    print(json.dumps(result, indent=1))
    if "torch" in loaded:
        raise SystemExit("the command line imports torch before it is asked to do anything")


if __name__ == "__main__":
    main()
