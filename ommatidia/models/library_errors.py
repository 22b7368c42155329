"""What transformers, tokenizers and the like raise for a config or folder that they cannot use, as one ConfigError."""

from __future__ import annotations

from types import TracebackType

from ommatidia.core.errors import ConfigError, OmmatidiaError

_RAISED = (
    OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError, IndexError, AssertionError,
    ZeroDivisionError, RecursionError, OverflowError, MemoryError,
)  # fmt: skip


class LibraryErrors:
    """A block in which a foreign library reads or builds: its errors become a ConfigError that starts with ``what``.

    The tokenizers library raises plain ``Exception``, and Rust's panics are a kind of their own.
    """

    def __init__(self, what: str, *, how: str = "") -> None:
        self._what, self._how = what, how

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, OmmatidiaError):
            return
        from huggingface_hub.errors import StrictDataclassError  # a field of a config that is of another type

        plain = type(error) is Exception or type(error).__name__ == "PanicException"
        if plain or isinstance(error, (*_RAISED, StrictDataclassError)):
            lines = 2 if isinstance(error, StrictDataclassError) else 1
            said = " ".join(" ".join((str(error).strip() or type(error).__name__).splitlines()[:lines]).split())[:300]
            if self._how and isinstance(error, OSError):
                said = f"it is not in the hub's cache and may not be fetched; {self._how}"
            raise ConfigError(f"{self._what}: {said}") from None
