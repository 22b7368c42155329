"""Looking inside the language model: the states between its blocks, and where its attention goes.

Shapes: B batch, T tokens, L states or layers, E language width, K views, H rows, W columns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ommatidia.core.errors import ConfigError, RunError
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, ROW_END, Batch
from ommatidia.models.between import behind
from ommatidia.models.language import LanguageModel
from ommatidia.models.model import MLLM


@torch.inference_mode()
def states(model: MLLM, batch: Batch) -> list[Tensor]:
    """The embeddings and what each block gives, x_BTE; the last one behind the final norm, as transformers counts."""
    x_BTE, seen = model.embed(batch)
    kept = [x_BTE]

    def keep(h_BTE: Tensor) -> Tensor:
        kept.append(h_BTE)
        return h_BTE

    blocks = model.language.blocks
    inside = model.injection.inside(model.language, seen) if seen else contextlib.nullcontext()
    with inside, behind(blocks, dict.fromkeys(range(len(blocks)), keep)):
        normed_BTE = model.language(x_BTE, batch.mask_BT)
    return [*kept[:-1], normed_BTE]


@torch.inference_mode()
def attention(model: MLLM, batch: Batch) -> Tensor:
    """a_LTT of a batch of one row: how much each position attends to each, the mean over heads, layer by layer.

    Raises RunError for a decoder that does not give its attention away.
    """
    if len(batch.ids_BT) != 1:
        raise RunError(f"attention is looked at one sample at a time, got {len(batch.ids_BT)}")
    x_BTE, seen = model.embed(batch)
    inside = model.injection.inside(model.language, seen) if seen else contextlib.nullcontext()
    with eager(model.language), inside:
        out = model.language.decoder.base_model(inputs_embeds=x_BTE, output_attentions=True, use_cache=False)
    layers = out.attentions
    if not layers or any(layer is None for layer in layers):
        raise RunError(f"{type(model.language.decoder).__name__} does not give its attention away")
    return torch.stack([layer[0].float().mean(0) for layer in layers])


@contextlib.contextmanager
def eager(language: LanguageModel) -> Iterator[None]:
    """Attention that is computed where it can be seen, inside the context alone."""
    decoder = language.decoder
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def visual_slots(model: MLLM, batch: Batch) -> Tensor:
    """True where a visual token stands, BT. Raises ConfigError where images stand nowhere in the sequence."""
    slots_BT = batch.ids_BT == IMAGE_TOKEN_ID
    if batch.views is not None and not bool(slots_BT.any()):
        kind = type(model.injection).__name__
        raise ConfigError(f"{kind} puts no visual token into the sequence: there is nothing to compare or attend to")
    return slots_BT


def likeness(v_NE: Tensor, t_ME: Tensor) -> float:
    """How alike two sets of states are: each one's cosine with its nearest in the other set, averaged both ways.

    VILA (arXiv 2312.07533), section 3: the mean of the largest entries of the rows and of the columns.
    """
    v_NE, t_ME = (nn.functional.normalize(x.float(), dim=-1) for x in (v_NE, t_ME))
    cosine_NM = v_NE @ t_ME.T
    return float(cosine_NM.amax(1).mean() + cosine_NM.amax(0).mean()) / 2


def deep_alignment(model: MLLM, batch: Batch) -> list[list[float]]:
    """For each row with an image and text behind it, the likeness of both at every state of the language model."""
    slots_BT = visual_slots(model, batch)
    kept = states(model, batch)
    found = []
    for row, slots_T in enumerate(slots_BT):
        places = slots_T.nonzero().flatten()
        if not len(places):
            continue
        text_T = batch.mask_BT[row] & ~slots_T & (torch.arange(len(slots_T), device=slots_T.device) > places[-1])
        if bool(text_T.any()):
            found.append([likeness(x_BTE[row][slots_T], x_BTE[row][text_T]) for x_BTE in kept])
    return found


def answer_attention(model: MLLM, batch: Batch, shape: tuple[int, int]) -> Tensor:
    """heat_LKHW: what the positions that predict the answer attend to in each visual token, their mean, by layer.

    ``shape`` is the grid of one view. Raises RunError where there is no answer.
    """
    slots_T = visual_slots(model, batch)[0]
    asked_T = torch.roll(batch.labels_BT[0] != IGNORE_LABEL, -1)
    if not bool(asked_T.any()) or batch.views is None:
        raise RunError("the sample has no image or no answer whose attention could be looked at")
    a_LN = attention(model, batch)[:, asked_T][:, :, slots_T].mean(1)
    size = (len(batch.views), *shape)
    heat_LP = a_LN.new_zeros(len(a_LN), size[0] * size[1] * size[2])
    visual_index_N = (
        torch.arange(a_LN.shape[1], device=a_LN.device) if batch.visual_index_N is None else batch.visual_index_N
    )
    standing = visual_index_N != ROW_END
    heat_LP.index_add_(1, visual_index_N[standing], a_LN[:, standing])
    return heat_LP.reshape(len(a_LN), *size)
