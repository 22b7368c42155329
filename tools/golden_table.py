"""Every comparison with the recorded outputs of published implementations, with its measured error, as a table.

    python tools/golden_table.py > docs/golden.md

Runs tests/golden, which says so where the recordings are absent (OMMATIDIA_GOLDEN, or shared/golden beside the
repository). A test that compares whole numbers, names or text has no error to show: it is equal or it fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_ABOUT = """\
Recorded outputs of the original code (tiny widths, real input geometry, float32 on a CPU), compared with ours from the
same weights. The bound is 1e-4 absolute plus 1e-4 relative, losses 1e-5; whole numbers, names and text must be equal.
Made by `python tools/golden_table.py > docs/golden.md`."""
_LINE = re.compile(r"(PASSED|FAILED|SKIPPED|ERROR)\s+(tests/golden/\S+)")


def main() -> int:
    with tempfile.NamedTemporaryFile("r", suffix=".tsv") as log:
        command = [sys.executable, "-m", "pytest", "tests/golden", "-q", "-rA", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMMATIDIA_GOLDEN_LOG": log.name}, capture_output=True, text=True
        )
        errors: dict[str, list[tuple[float, float]]] = {}
        for line in log.read().splitlines():
            test, _, difference, largest = line.split("\t")
            errors.setdefault(test, []).append((float(difference), float(largest)))
    found = [(name, state) for state, name in _LINE.findall(done.stdout)]
    write = sys.stdout.write
    write(f"# Against the published implementations\n\n{_ABOUT}\n\n")
    columns = ("test", "variants", "result", "comparisons", "largest difference", "of a largest value")
    write(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|\n")
    tests = sorted({name.partition("[")[0] for name, _ in found})
    for test in tests:
        states = {state.lower() for name, state in found if name.partition("[")[0] == test}
        count = sum(name.partition("[")[0] == test for name, _ in found)
        rows = [row for name, some in errors.items() if name.partition("[")[0] == test for row in some]
        figures = "{} | {:.1e} | {:.3g}".format(len(rows), *max(rows)) if rows else "exact | – | –"
        title = test.removeprefix("tests/golden/test_").replace(".py::test_", ": ").replace("_", " ")
        write(f"| {title} | {count} | {', '.join(sorted(states))} | {figures} |\n")
    if done.returncode:
        sys.stderr.write(done.stdout[-2000:])
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
