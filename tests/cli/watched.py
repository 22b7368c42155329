"""A program that runs commands of omma one after another and writes down what each fetched, wrote, started or ran.

``python watched.py CASES ALLOWED...``: CASES is a JSON list of {name, arguments}; files that are written below one of
the folders ALLOWED are not noted. found.json in the first of them gets each case with its exit code, words and notes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.chown", "os.truncate",
    "shutil.rmtree", "shutil.move",
}  # fmt: skip
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "webbrowser.open", "pty.spawn"}
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
_HARMLESS = ("git", "lscpu", "uname", "ldconfig", "gcc", "cc", "ld", "nvidia-smi", "rocminfo", "fc-list")
"""Programs that libraries ask about this machine, and that we ask for our own commit."""


class Watch:
    """Notes of one command; the audit hook of a process cannot be taken off, so there is one for all."""

    def __init__(self, scratch: Path, allowed: list[Path]) -> None:
        self.notes: list[str] = []
        self._scratch = f"{scratch}{os.sep}"
        self._allowed = tuple(f"{folder}{os.sep}" for folder in allowed)
        libraries = (sysconfig.get_paths()["purelib"], sys.base_prefix, "/usr/lib", "/lib")
        self._libraries = tuple(os.path.realpath(folder) for folder in libraries)

    def _outside(self, path: object) -> str | None:
        """The absolute path when nobody may write there."""
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        full = os.path.realpath(os.fsdecode(path))
        return None if f"{full}{os.sep}".startswith(self._allowed) or full.startswith("/dev/") else full

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & _WRITING
            )
            if writes and (place := self._outside(path)):
                self.notes.append(f"write {place}")
        elif event in _CHANGES:
            for path in arguments[:2]:
                if isinstance(path, str | bytes | os.PathLike) and (place := self._outside(path)):
                    self.notes.append(f"{event} {place}")
        elif event in _STARTS:
            program = os.path.basename(str(arguments[0]))
            if not program.startswith(_HARMLESS):
                self.notes.append(f"start {program} {arguments[1:2]}")
        elif event in _NETWORK:
            self.notes.append(f"{event} {arguments[1:]}")
            raise PermissionError(f"{event}: no network here")
        elif event == "pickle.find_class":
            self.notes.append(f"unpickle {arguments}")
        elif event == "exec":
            file = getattr(arguments[0], "co_filename", "")
            if str(file).startswith(self._scratch):
                self.notes.append(f"run {file}")
        elif event == "ctypes.dlopen" and isinstance(arguments[0], str) and os.path.isabs(arguments[0]):
            place = os.path.realpath(arguments[0])
            self.notes += [] if place.startswith(self._libraries) else [f"dlopen {place}"]


class Ending:
    """How a command ended: its exit code, and the traceback of anything that is not one of our errors, code 99."""

    code, crash = 0, ""

    def __enter__(self) -> Ending:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: Any) -> bool:
        if isinstance(error, SystemExit):
            self.code = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            self.code, self.crash = 99, "".join(traceback.format_exception(error))
        return True


def carry_out(arguments: list[str]) -> tuple[int, str]:
    """Exit code and everything said."""
    from ommatidia import cli

    sys.argv = ["omma", *arguments]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), Ending() as ending:
        cli.main()
    return ending.code, said.getvalue() + ending.crash


def main() -> None:
    cases_path, *allowed = map(Path, sys.argv[1:])
    cases = json.loads(cases_path.read_text())
    watch = Watch(cases_path.parent, [folder.resolve() for folder in allowed])
    import torch

    import ommatidia.core.malloc

    torch.set_num_threads(1)
    ommatidia.core.malloc.keep_memory = lambda: False
    sys.addaudithook(watch.hook)
    found = []
    for case in cases:
        watch.notes = []
        code, said = carry_out(case["arguments"])
        found.append({**case, "code": code, "said": " ".join(said.split()), "notes": watch.notes})
    (allowed[0] / "found.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
