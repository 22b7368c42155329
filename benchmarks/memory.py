"""Peak resident memory of a command, by default of a small search. Prints JSON.

python -m benchmarks.memory [command ...]     e.g. omma search ommatidia.recipes.quickstart:search --store /tmp/s

``largest_process_mib`` is the largest resident set of any one process the command started, as the kernel counted it.
``together_mib`` is the most that all of them held at once, pages that they share counted once, looked at twice a
second; Linux alone tells it. The small search shows the floor: Python, torch and the weights. The quickstart's own
figure needs the quickstart as the command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tiny_search import write

TARGET_MIB = 8 * 1024
_EVERY = 0.5


def family(root: int) -> list[int]:
    """The process and all that descend from it, by what the kernel says now."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def together(root: int) -> int:
    """KiB that a process and its descendants hold, each shared page counted once; 0 where nobody tells."""
    total = 0
    for one in family(root):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        places = ["--store", str(folder / "store"), "--out", str(folder / "out")]
        small = [sys.executable, "-m", "ommatidia.cli", "--quiet", "search", str(write(folder)), *places]
        began, most = time.perf_counter(), 0
        with subprocess.Popen(given.command or small, stdout=sys.stderr) as running:
            while running.poll() is None:
                most = max(most, together(running.pid))
                time.sleep(_EVERY)
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, running.args)
        seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 2**20
    result = {
        "largest_process_mib": round(largest),
        "together_mib": round(most / 2**10),
        "target_mib": TARGET_MIB,
        "seconds": round(seconds, 1),
        "command": " ".join(given.command) or "omma search (benchmarks.tiny_search)",
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
