"""The one place that makes a matplotlib figure: matplotlib is an extra, and a missing one is a clear error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ommatidia.core.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**options: Any) -> Figure:
    """An empty figure without a window; ``options`` are matplotlib's. Raises ConfigError where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError("drawing this needs the package 'matplotlib': pip install 'ommatidia[plots]'") from None
    return Figure(**options)
