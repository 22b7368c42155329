"""Searches: pure functions from finished trials to the next recipes."""

from ommatidia.lab.search import greedy, grid, singles
from ommatidia.lab.search.greedy import RoundRobin
from ommatidia.lab.search.grid import FullGrid
from ommatidia.lab.search.search import Search, run_search
from ommatidia.lab.search.singles import Singles
from ommatidia.lab.search.strategy import Space, Strategy

__all__ = [
    "FullGrid",
    "RoundRobin",
    "Search",
    "Singles",
    "Space",
    "Strategy",
    "greedy",
    "grid",
    "run_search",
    "singles",
]
