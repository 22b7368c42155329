"""Run benchmarks, each in a process of its own, and keep what they print with a note of the machine.

python -m benchmarks [name ...]     all of them by default; results go to benchmarks/results/<name>.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ommatidia.lab.nodes.provenance import provenance

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PARTS = frozenset(
    {"__init__", "__main__", "tuned_stage", "tiny_search", "eagle_encoders"}
    | {"simulated_answers", "simulated_groups", "verdict_tables"}
)
"""Files that are no benchmarks themselves."""


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in PARTS)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    models = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "")
    return {
        **provenance(),
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "memory": memory.partition(":")[2].strip(),
        "threads": os.environ.get("OMP_NUM_THREADS", "torch's default"),
        "load": os.getloadavg()[0],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def measure(name: str, around: dict[str, Any]) -> dict[str, Any]:
    """The benchmark's document with time, command and machine. Raises CalledProcessError when it fails."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True, check=True, cwd=FOLDER.parent
    )
    return {
        "benchmark": name,
        "command": f"python -m benchmarks {name}",
        "result": json.loads(done.stdout),
        "seconds": round(time.perf_counter() - began, 1),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": around,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(names())}")
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(names())):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}")
    RESULTS.mkdir(exist_ok=True)
    around, failed = machine(), []
    for name in given.names or names():
        try:
            document = measure(name, around)
        except subprocess.CalledProcessError as error:
            print(f"{name}: failed with exit status {error.returncode}", file=sys.stderr)
            failed.append(name)
            continue
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {document['seconds']} s, {path.relative_to(FOLDER.parent)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
