"""Pieces: which rows of a tensor a rank holds, so that what N ranks wrote can be read by M.

A tensor is either held whole by every rank, or in shards along its first axis (``DTensor``), perhaps by several groups
of ranks that each hold all of it. On disk a shard is a tensor of its own whose place is told in the file's header.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from ommatidia.core.errors import RunError
from ommatidia.models.tensors import save_tensors

_ROWS = "rows"
"""Key of a file's header: for each shard in it, its first row and how many rows the whole tensor has."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A tensor, or the rows of it from ``begin`` on, of ``rows`` in all."""

    tensor: Tensor
    begin: int = 0
    rows: int | None = None
    """None: it is the whole."""


def whole(tensor: Tensor) -> Tensor:
    """A tensor that ranks may hold in shards, put together; all ranks must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def pieces_of(tensors: Mapping[str, Tensor], *, rank: int, world: int) -> dict[str, Piece]:
    """What this rank writes, so that all ranks together write everything once.

    Whole tensors are shared out by size; buffers, which may differ between ranks, are taken from rank 0.
    """
    mine, load = {}, [0] * world
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].numel(), item[0])):
        if isinstance(tensor, DTensor):
            if _writes(tensor) and (span := _span(tensor)):
                mine[name] = Piece(tensor.to_local().detach(), span.start, tensor.shape[0])
            continue
        shared = isinstance(tensor, nn.Parameter) or "/" in name
        owner = min(range(world), key=lambda r: load[r]) if shared else 0
        load[owner] += tensor.nbytes
        if owner == rank:
            mine[name] = Piece(tensor.detach())
    return {name: mine[name] for name in tensors if name in mine}


def snapshot(pieces: Mapping[str, Piece]) -> dict[str, Piece]:
    """Copies on the CPU, which training does not touch."""
    return {n: Piece(p.tensor.to("cpu", copy=True), p.begin, p.rows) for n, p in pieces.items()}


def write_pieces(path: Path, pieces: Mapping[str, Piece]) -> None:
    """One safetensors file."""
    rows = {name: [piece.begin, piece.rows] for name, piece in pieces.items() if piece.rows is not None}
    tensors = {name: _alone(piece.tensor) for name, piece in pieces.items()}
    save_tensors(tensors, path, metadata={_ROWS: json.dumps(rows)} if rows else None)


class ShardFile:
    """Tensors by name from files of pieces; nothing is read before it is asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._places: dict[str, list[tuple[int, int | None, Path]]] = {}
        for path in paths:
            with safe_open(path, "pt") as file:
                rows = json.loads((file.metadata() or {}).get(_ROWS, "{}"))
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    begin, total = rows.get(name, (0, None))
                    self._places.setdefault(name, []).append((begin, total, path))

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def whole(self, name: str) -> Tensor:
        """All of a tensor."""
        places = self._places[name]
        if places[0][1] is None:
            with safe_open(places[0][2], "pt") as file:
                return file.get_tensor(name)
        return self._rows(name, range(places[0][1]))

    def like(self, name: str, tensor: Tensor | None) -> Tensor:
        """The tensor, held in shards as ``tensor`` is where the two have as many rows; otherwise whole."""
        if not isinstance(tensor, DTensor):
            return self.whole(name)
        _, rows, path = self._places[name][0]
        if rows is None:
            with safe_open(path, "pt") as file:
                piece = file.get_slice(name)
                shape = tuple(piece.get_shape())
                if shape[:1] != tuple(tensor.shape[:1]):
                    return file.get_tensor(name)
                span = _span(tensor)
                local = piece[span.start : span.stop]
        else:
            if rows != tensor.shape[0]:
                return self.whole(name)
            local = self._rows(name, _span(tensor))
            with safe_open(path, "pt") as file:
                shape = (rows, *file.get_slice(name).get_shape()[1:])
        mine = tensor.to_local()
        return sharded_as(tensor, local.to(mine.device).reshape(len(mine), *shape[1:]), shape)

    def _rows(self, name: str, wanted: range) -> Tensor:
        """Rows of a tensor that lies in shards. Raises RunError when some are missing."""
        found, at = [], wanted.start
        for begin, _, path in sorted(self._places[name], key=lambda place: place[0]):
            with safe_open(path, "pt") as file:
                piece = file.get_slice(name)
                end = begin + piece.get_shape()[0]
                if begin <= at < end and at < wanted.stop:
                    upto = min(end, wanted.stop)
                    found.append(piece[at - begin : upto - begin])
                    at = upto
        if at < wanted.stop:
            raise RunError(f"{name}: rows {at} to {wanted.stop - 1} are in no file of the checkpoint")
        if found:
            return torch.cat(found)
        with safe_open(self._places[name][0][2], "pt") as file:  # this rank holds no row, but of the right type
            return file.get_slice(name)[0:0]


def sharded_as(tensor: DTensor, local: Tensor, shape: Sequence[int]) -> DTensor:
    """A tensor of ``shape`` of which this rank holds ``local``: the rows that it holds of ``tensor``."""
    shape = torch.Size(shape)
    stride = tensor.stride() if shape == tensor.shape else torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, tensor.device_mesh, tensor.placements, run_check=False, shape=shape, stride=stride)


def _span(tensor: DTensor) -> range:
    """The rows held here. FSDP cuts the first axis into equal chunks, the last ones shorter or empty."""
    mesh, rows = tensor.device_mesh, tensor.shape[0]
    for dim, placement in enumerate(tensor.placements):
        if isinstance(placement, Shard):
            if placement.dim != 0:
                raise RunError(f"a tensor is sharded along axis {placement.dim}; checkpoints hold shards of rows")
            chunk = -(-rows // mesh.size(dim))
            begin = min(chunk * mesh.get_local_rank(dim), rows)
            return range(begin, min(begin + chunk, rows))
    return range(rows)


def _writes(tensor: DTensor) -> bool:
    """Whether this rank is the first of those that hold the same rows."""
    mesh = tensor.device_mesh
    return all(
        isinstance(placement, Shard) or mesh.get_local_rank(dim) == 0 for dim, placement in enumerate(tensor.placements)
    )


def _alone(tensor: Tensor) -> Tensor:
    """The tensor as safetensors wants it: contiguous, and no view into a storage that holds other values as well."""
    tensor = tensor.detach().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
