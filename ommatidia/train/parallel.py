"""Parallel: how the ranks hold a model between them: alone, in whole copies (DDP), or in shards (FSDP2, HSDP).

All three compute the same sums: a rank's loss counts as its share of the loss over all ranks, and gradients are summed.
"""

from __future__ import annotations

import contextlib
import inspect
from abc import ABC, abstractmethod
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ommatidia.core.types import Batch, Example
from ommatidia.train.blocks import blocks_of
from ommatidia.train.freeze import Trained
from ommatidia.train.ranks import Ranks
from ommatidia.train.stage import Stage

VISUAL = ("encoders.", "fusion", "projector", "injection", "distillation")
"""Parts that only images reach, by how their names begin."""


class Trainable(Protocol):
    """What can be trained; ``ommatidia.models.model.MLLM`` is one."""

    def parts(self) -> dict[str, nn.Module]: ...

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """Sum of the losses, and over how many targets: supervised tokens, or views where one encoder is distilled."""
        ...

    def targets(self, example: Example) -> int:
        """How many targets an example brings: the losses of a batch are divided by their sum."""
        ...


_PARAMETERS = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers"
"""Whether ranks take rank 0's buffers at every pass: renamed in torch 2.15."""


class Parallel(ABC):
    """A model in the hands of the ranks."""

    scale = 1
    """What a rank's loss is multiplied by, where torch averages gradients over ranks instead of adding them."""
    recovers = True
    """Whether a pass that one rank could not finish can be made again, because the ranks have not met in it yet."""

    def __init__(self, model: Trainable) -> None:
        self.model = model

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        """``model.loss``, so that a backward pass from it reaches all ranks."""

    def apart(self) -> contextlib.AbstractContextManager[None]:
        """Around all micro-batches but the last: gradients need not meet before that one."""
        return contextlib.nullcontext()

    def complete(self) -> None:
        """After the last backward pass of a step: now every gradient is the sum over all ranks."""
        return

    def settle(self) -> None:
        """After forward passes that no backward pass follows."""
        return

    def restart(self) -> None:
        """After a step that was given up in the middle."""
        return


class Alone(Parallel):
    """One process."""

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        return self.model.loss(batch)


class _Loss(nn.Module):
    """The model's loss as a forward pass: what torch's wrappers hook into."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[Tensor, int]:
        return cast(Trainable, self.model).loss(batch)


class Copies(Parallel):
    """Every rank holds the whole model; gradients are summed while the last micro-batch goes back."""

    def __init__(self, model: Trainable, trained: Trained, world: int) -> None:
        super().__init__(model)
        self.scale = world
        visual = [name.startswith(VISUAL) for name in trained.rates]
        self._only_visual = all(visual)
        # Without images nothing reaches the visual parts; with them a fusion may leave some of its paths out.
        self._any_visual = any(visual)
        self._copy = self._wrapped()

    def _wrapped(self) -> DistributedDataParallel:
        return DistributedDataParallel(
            _Loss(cast(nn.Module, self.model)),
            find_unused_parameters=self._any_visual,
            gradient_as_bucket_view=True,
            **cast(Any, {_SYNC_BUFFERS: False}),
        )

    def restart(self) -> None:
        del self._copy  # with its hooks on the parameters
        self._copy = self._wrapped()

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        if not torch.is_grad_enabled() or (self._only_visual and batch.views is None):
            return self.model.loss(batch)  # a pass that never goes back must not begin in DDP's books
        return self._copy(batch)

    def apart(self) -> contextlib.AbstractContextManager[None]:
        return self._copy.no_sync()


class _Shard(_Loss):
    """A loss that reaches every trained parameter outside the blocks, be it with nothing.

    Ranks sum the gradients of those that have one; a path of the fusion that only some rank's images take must not
    let them differ about which those are.
    """

    def forward(self, batch: Batch) -> tuple[Tensor, int]:
        total, count = super().forward(batch)
        if batch.views is None or not total.requires_grad:
            return total, count
        for part, module in cast(Trainable, self.model).parts().items():
            if part.startswith(VISUAL):
                for parameter in module.parameters():
                    if parameter.requires_grad and not isinstance(parameter, DTensor):
                        total = total + 0.0 * parameter.reshape(-1)[0].float()
        return total, count


class Shards(Parallel):
    """Every rank holds a share of every block's weights, gradients and moments; blocks are put together to be run.

    Gradients are summed after every micro-batch: keeping them whole until the last would cost what sharding saves.
    """

    recovers = False

    def __init__(self, model: Trainable, stage: Stage, ranks: Ranks, device: torch.device) -> None:
        super().__init__(model)
        self.scale = ranks.world
        engine = stage.engine
        replicas = 1
        if engine.parallel == "hsdp":
            replicas = engine.replicas or max(1, ranks.world // ranks.local_world)
        mesh = ranks.mesh(device, replicas)
        policy = _policy(model, stage)
        self._whole = _held_whole(model)
        options: dict[str, Any] = {"mesh": mesh, "mp_policy": policy, "ignored_params": set(self._whole)}
        for part in model.parts().values():
            for block in blocks_of(part):
                fully_shard(block, **options)
        self._root = _Shard(cast(nn.Module, model))
        fully_shard(self._root, **options)
        self._root.to(device)  # buffers of the root and what is held whole; shards are there already

    def loss(self, batch: Batch) -> tuple[Tensor, int]:
        return self._root(batch)

    def complete(self) -> None:
        if not self._whole:
            return
        held = [torch.zeros_like(p) if p.grad is None else p.grad for p in self._whole]
        total = torch.cat([gradient.flatten() for gradient in held]).div_(self.scale)
        dist.all_reduce(total)
        for parameter, part in zip(self._whole, total.split([p.numel() for p in self._whole]), strict=True):
            parameter.grad = part.view_as(parameter)

    def settle(self) -> None:
        for module in self._root.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


_PRODUCTS = (nn.Linear, *(getattr(nn, f"Conv{transposed}{n}d") for transposed in ("", "Transpose") for n in (1, 2, 3)))
"""Modules whose parameters autocast rounds to bfloat16 wherever they are used."""
_BY_PARAMETER = "param_dtype_override_fn" in inspect.signature(MixedPrecisionPolicy).parameters
"""Whether some of a group's weights may travel in another type than others: since torch 2.15."""


def _policy(model: Trainable, stage: Stage) -> MixedPrecisionPolicy:
    """In which types weights travel and gradients are summed: so that what is computed is what one process computes.

    Products run in bfloat16 by autocast, as in one process, so the weights of products may travel in it. Norms,
    embeddings and tables stay in float32, which autocast leaves them in. What each rank keeps is never cast.
    """
    if stage.precision != "bf16" or not _BY_PARAMETER:
        return MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    modules = [module for part in model.parts().values() for module in part.modules()]
    others = {
        id(parameter)
        for module in modules
        if not isinstance(module, _PRODUCTS)
        for parameter in module.parameters(recurse=False)
    }

    def travels(parameter: nn.Parameter) -> torch.dtype | None:
        return parameter.dtype if id(parameter) in others else None

    fields: dict[str, Any] = {"param_dtype": torch.bfloat16, "param_dtype_override_fn": travels}
    return MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False, **fields)


def _held_whole(model: Trainable) -> list[nn.Parameter]:
    """Trained parameters that every rank keeps whole, since FSDP's groups train numbers of one type only: the float32
    norms among matrices in bfloat16. They are few and small."""
    trained = list(dict.fromkeys(p for part in model.parts().values() for p in part.parameters() if p.requires_grad))
    if len({parameter.dtype for parameter in trained}) < 2:
        return []
    return [parameter for parameter in trained if parameter.dtype != torch.bfloat16]


def distribute(model: Trainable, trained: Trained, stage: Stage, ranks: Ranks, device: torch.device) -> Parallel:
    """Put ``model`` on ``device`` in the way of ``stage.engine.parallel``.

    Raises ConfigError when the ranks do not make the groups that ``engine.replicas`` asks for.
    """
    if ranks.world > 1 and stage.engine.parallel != "ddp":
        return Shards(model, stage, ranks, device)
    for part in model.parts().values():
        part.to(device)
    return Copies(model, trained, ranks.world) if ranks.world > 1 else Alone(model)
