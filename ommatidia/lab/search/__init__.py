"""Searches: pure functions from finished trials to the next recipes."""

from ommatidia.lab.search import greedy, grid, listed, singles
from ommatidia.lab.search.greedy import RoundRobin
from ommatidia.lab.search.grid import FullGrid
from ommatidia.lab.search.listed import Listed
from ommatidia.lab.search.search import Search, run_search
from ommatidia.lab.search.singles import Singles
from ommatidia.lab.search.strategy import Space, Strategy

__all__ = [
    "FullGrid",
    "Listed",
    "RoundRobin",
    "Search",
    "Singles",
    "Space",
    "Strategy",
    "greedy",
    "grid",
    "listed",
    "run_search",
    "singles",
]
