"""A search and the same search again on the same store: how much work is left the second time. Prints JSON.

python -m benchmarks.second_search [--search REFERENCE]     a few seconds' search by default

Both are ``omma search`` in a process of its own. Work is nodes done and their operations; seconds are of the whole
command, with Python's start and the report in them, which is most of what a second search takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.tiny_search import write

TARGET = 0.02


def search(reference: str, folder: Path) -> dict[str, Any]:
    """One ``omma search``: what it says it did, and how long the command took."""
    command = [sys.executable, "-m", "ommatidia.cli", "--json", "search", reference]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--store", str(folder / "store"), "--out", str(folder / "out")],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    return {
        "nodes_done": said["executed"],
        "nodes_reused": said["reused"],
        "flops": said["flops"],
        "seconds": round(time.perf_counter() - began, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", help="package.module:function or a YAML file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        reference = given.search or str(write(folder))
        first, second = search(reference, folder), search(reference, folder)
    result = {
        "ratio": second["flops"] / first["flops"],
        "ratio_nodes": second["nodes_done"] / first["nodes_done"],
        "ratio_seconds": round(second["seconds"] / first["seconds"], 4),
        "target": TARGET,
        "first": first,
        "second": second,
        "search": given.search or "benchmarks.tiny_search",
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
