"""What a step really does, counted operation by operation: bytes alive, and products that run in 32 bits.

Counts are exact and the same on every machine, unlike seconds; benchmarks and tests rest on them.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

_PRODUCTS = frozenset({
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution", "aten::convolution_backward",
    "aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention", "aten::_scaled_dot_product_cudnn_attention", "aten::linear",
})  # fmt: skip


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of what operations inside the context have made and nobody has let go of yet.

    Storage that was there before is not counted. What a kernel uses only inside itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._held: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        given = {_address(leaf) for leaf in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            if _address(tensor) not in given:
                self._take(tensor.untyped_storage())
        return out

    def _take(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._held or not storage.nbytes():
            return
        self._held[place] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._let_go, place)

    def _let_go(self, place: int) -> None:
        self.now -= self._held.pop(place, 0)

    def restart(self) -> Self:
        """Take the present as the peak so far."""
        self.peak = self.now
        return self


class Float32Products(TorchDispatchMode):
    """Counts matrix products, convolutions and attentions on float32 numbers, by the module that they run in.

    On a GPU such a product takes many times as long as one in bfloat16. ``intended`` names the ends of module paths in
    which float32 is wanted, such as ``rotary_emb``, whose angles would be wrong in fewer bits.
    """

    def __init__(self, *, intended: Iterable[str] = ("rotary_emb",)) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.seen = 0
        """Products of any type."""
        self._intended = tuple(intended)
        self._modules = ModuleTracker()

    def __enter__(self) -> Self:
        self._modules.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._modules.__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        if name in _PRODUCTS:
            self.seen += 1
            where = max(self._modules.parents, key=len)
            if any(t.dtype == torch.float32 and t.ndim > 1 for t in _tensors(args)) and not where.endswith(
                self._intended
            ):
                self.found[f"{where}: {name}"] += 1
        return func(*args, **(kwargs or {}))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
