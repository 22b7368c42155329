"""How long it takes to see that nothing has changed: many small images, alone and as a LLaVA file. Prints JSON.

python -m benchmarks.files [--files 1000000] [--folder FOLDER]     20,000 by default

Every pass is a process of its own, so that only what is remembered on disk helps: first the files alone (everything is
hashed), then again; then the fingerprint of a source whose records name them, and again. Counted are files opened,
calls of ``stat`` and SQL statements. The files are made below ``--folder``, a temporary one by default, and removed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PER_FOLDER = 1000
PASSES = ("files", "files", "source", "source")


def names(count: int) -> list[str]:
    return [f"{number // PER_FOLDER:05d}/{number:08d}.jpg" for number in range(count)]


def make(folder: Path, count: int) -> None:
    """Files of a few hundred bytes, all different, and a LLaVA file with a record for each."""
    for number, name in enumerate(names(count)):
        if number % PER_FOLDER == 0:
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        with open(folder / "images" / name, "wb", buffering=0) as file:
            file.write(b"%08d" % number * 40)
    with (folder / "mine.json").open("w") as file:
        for number, name in enumerate(names(count)):
            turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": f"It is {number}."}]
            record = json.dumps({"id": str(number), "image": name, "conversations": turns})
            file.write(("[" if number == 0 else ",\n") + record)
        file.write("]")


def look(what: str, folder: Path, count: int) -> dict[str, Any]:
    """One pass, in this process."""
    from ommatidia.core import files
    from ommatidia.data.llava_json import LlavaJSON

    paths = [f"{folder}/images/{name}" for name in names(count)]
    counts, read, stat = {"opened": 0, "stats": 0}, files._read, os.stat

    def counted_read(path: str) -> tuple[bytes, bytes]:
        counts["opened"] += 1
        return read(path)

    def counted_stat(path: Any, **how: Any) -> os.stat_result:
        counts["stats"] += 1
        return stat(path, **how)

    files._read, os.stat = counted_read, counted_stat
    began = time.perf_counter()
    if what == "files":
        assert None not in files.digest_files(paths)
    else:
        LlavaJSON(path=folder / "mine.json", image_root=folder / "images").fingerprint()
    seconds = time.perf_counter() - began
    files._read, os.stat = read, stat
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    counts["statements"] = files.memory().statements
    return {"what": what, "seconds": round(seconds, 2), **counts, "peak_gib": round(memory, 2)}


def bare(folder: Path, count: int) -> float:
    """Seconds of one ``os.stat`` for each file and nothing else: what no way of looking can undercut."""
    paths = [f"{folder}/images/{name}" for name in names(count)]
    began = time.perf_counter()
    for path in paths:
        os.stat(path)
    return round(time.perf_counter() - began, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--look", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        print(json.dumps(look(given.look[0], Path(given.look[1]), given.files)))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        make(Path(place), given.files)
        time.sleep(2.5)  # until the files no longer count as just written
        environment = {**os.environ, "OMMATIDIA_CACHE": f"{place}/cache"}
        passes = []
        for what in PASSES:
            command = [sys.executable, "-m", "benchmarks.files", "--files", str(given.files), "--look", what, place]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            passes.append(json.loads(done.stdout))
        stats = bare(Path(place), given.files)
        kept = sum(path.stat().st_size for path in Path(place, "cache").iterdir())
        result = {"files": given.files, "bare_stats": stats, "passes": passes, "cache_mib": round(kept / 2**20, 1)}
        print(json.dumps(result), flush=True)  # before the files are removed, which takes longer than looking at them


if __name__ == "__main__":
    main()
