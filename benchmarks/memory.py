"""Peak resident memory of a command, by default of a small search. Prints JSON.

python -m benchmarks.memory [command ...]     e.g. omma search ommatidia.recipes.quickstart:search --store /tmp/s

The figure is the largest resident set of any one process the command started, as the kernel counted it. The small
search shows the floor: Python, torch and the weights. The quickstart's own figure needs the quickstart as the command.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tiny_search import write

TARGET_MIB = 8 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        places = ["--store", str(folder / "store"), "--out", str(folder / "out")]
        small = [sys.executable, "-m", "ommatidia.cli", "--quiet", "search", str(write(folder)), *places]
        began = time.perf_counter()
        subprocess.run(given.command or small, stdout=sys.stderr, check=True)
        seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**20
    result = {
        "peak_mib": round(peak),
        "target_mib": TARGET_MIB,
        "seconds": round(seconds, 1),
        "command": " ".join(given.command) or "omma search (benchmarks.tiny_search)",
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
