"""Cambrian-1's aggregator, inside and outside the decoder, gives the numbers that the published implementation gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ommatidia.core.grid import Grid, content
from ommatidia.core.types import IGNORE_LABEL, IMAGE_TOKEN_ID, ROW_END, Batch, View, Views
from ommatidia.models.build import StoredTrunk
from ommatidia.models.fusion import SVA
from ommatidia.models.injection import DeepSVA
from ommatidia.models.injection.injection import InjectionContext
from ommatidia.models.language import LanguageModel
from ommatidia.models.language.hf import shape_of
from ommatidia.models.model import MLLM
from ommatidia.models.projector import MLPProjector
from ommatidia.models.published.cambrian import rules
from ommatidia.models.published.names import account
from ommatidia.models.vision import VisionEncoder

Close = Callable[[Tensor, Tensor, str], None]


def renamed(weights: Mapping[str, Tensor], names: list[str], model: MLLM) -> dict[str, Tensor]:
    """The published names as those of our whole model."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {ours: weights[theirs] for theirs, ours in account(weights, rules(names), expected, what="").used.items()}


class Recorded:
    """The case, and our model with its weights behind stored features."""

    def __init__(self, case: Any) -> None:
        self.given, self.out, settings = case.tensors("inputs"), case.tensors("outputs"), case.config
        self.side, width = int(settings["image_token_len"] ** 0.5), settings["vision_hidden_size"]
        self.names = [f"e{k}" for k in range(len(settings["encoder_widths"]))]
        tokens = settings["mm_vision_" + "tower_aux_token_len_list"]
        sides = {name: int(count**0.5) for name, count in zip(self.names, tokens, strict=True)}
        self.features = {
            name: self.given[f"encoder_features.{k}"].unflatten(1, (sides[name], sides[name]))
            for k, name in enumerate(self.names)
        }
        grids = {name: Grid(*x_KHWD.shape[1:]) for name, x_KHWD in self.features.items()}
        heads = width // settings["attention_head_dim"]
        fusion = SVA(
            side=self.side, width=width, depth=settings["connector_depth"], heads=heads,
            groups=tuple(int(count**0.5) for count in settings["query_num_list"]), sides=sides,
        )  # fmt: skip
        self.model = self._built(settings, fusion, grids)
        self.model.load_state_dict(renamed(case.tensors("weights"), self.names, self.model))
        self.sizes = [(height, width) for width, height in settings["image_sizes_wh"]]
        self.image_position = settings["image_position"]
        self.seen: dict[str, list[Tensor]] = {}
        self._watch()

    def _built(self, settings: Mapping[str, Any], fusion: SVA, grids: dict[str, Grid]) -> MLLM:
        from transformers import LlamaConfig, LlamaForCausalLM

        decoder = LlamaForCausalLM(LlamaConfig(**settings["llm"]))
        shape, fused = shape_of(decoder.config), fusion.out(grids)
        projector = MLPProjector()
        injection = DeepSVA(
            row_end=True,
            count=settings["num_of_vision_sampler_layers"],
            start=settings["start_of_vision_sampler_layers"],
            stride=settings["stride_of_vision_sampler_layers"],
        )
        grid = projector.out(fused, shape.width)
        model = MLLM()
        for name in grids:
            model.encoders[name] = VisionEncoder(StoredTrunk(name), nn.Identity())
        model.language = LanguageModel(decoder)
        model.fusion, model.projector = fusion.build(grids), projector.build(fused, shape.width)
        model.injection = injection.build(InjectionContext(grid, shape, fusion.memory_shape(grids)))
        return model.eval()

    def _watch(self) -> None:
        """Keep what goes into and comes out of every part that was recorded."""

        def keep(name: str, module: nn.Module) -> None:
            module.register_forward_hook(lambda _, given, out: self.seen.update({name: [*given, out]}))

        for k, name in enumerate(self.names):
            keep(f"adapter.{k}", self.model.fusion.get_submodule(f"adapters.{name}"))
        for d, layer in enumerate(self.model.fusion.get_submodule("groups.0").children()):
            keep(f"sva_layer{d}", layer)
        for j, layer in enumerate(self.model.injection.get_submodule("layers").children()):
            keep(f"inllm{j}", layer)
        keep("projector", self.model.projector)

    def kept(self, row: int) -> tuple[range, range]:
        """Rows and columns of the visual tokens that stand in the text of the variable-length layout."""
        top, left, bottom, right = content(self.side, self.side, *self.sizes[row], at_least=1)
        return range(top, bottom), range(left, right)

    def batch(self, *, static: bool) -> Batch:
        """The recorded rows: only what shows the image, or every cell with a mask over what does not."""
        places, ids, labels, masks = [], [], [], []
        for row, (ids_T, mask_T) in enumerate(zip(self.given["input_ids"], self.given["attention_mask"], strict=True)):
            first = row * self.side**2
            rows, columns = (range(self.side), range(self.side)) if static else self.kept(row)
            numbers = [n for r in rows for n in [*(first + r * self.side + c for c in columns), ROW_END]]
            places += numbers
            real, at = int(mask_T.sum()), self.image_position
            text, said = ids_T[:real].tolist(), self.given["labels"][row, :real].tolist()
            ids.append(text[:at] + [IMAGE_TOKEN_ID] * len(numbers) + text[at + 1 :])
            labels.append(said[:at] + [IGNORE_LABEL] * len(numbers) + said[at + 1 :])
            masks.append(self.out["train.attention_mask"][row].bool().tolist() if static else [True] * len(ids[-1]))
        longest = max(map(len, masks))

        def padded(rows: list[list[Any]], fill: int) -> Tensor:
            return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])

        return Batch(
            tuple("abcd"), padded(ids, 0), padded(labels, IGNORE_LABEL), padded(masks, 0).bool(),
            features=self.features, views=Views.of([[View(0, size)] for size in self.sizes]),
            visual_index_N=torch.tensor(places),
        )  # fmt: skip


@pytest.fixture(scope="module")
def recorded(golden: Callable[[str], Any]) -> Recorded:
    return Recorded(golden("cambrian_sva_g1"))


@torch.no_grad()
def test_adapters_windows_and_layers(recorded: Recorded, close: Close) -> None:
    views = Views.of([[View(0, size)] for size in recorded.sizes])
    fused, out = recorded.model.fusion(recorded.features, views), recorded.out
    memory, count = fused.memory, len(recorded.sizes)
    masks = memory.shown_NM.split([x_NMC.shape[1] for x_NMC in memory.cells.values()], -1)
    for k, (name, mask_NM) in enumerate(zip(recorded.names, masks, strict=True)):
        adapted = recorded.seen[f"adapter.{k}"][-1].flatten(1, 2)
        close(adapted[:, :: adapted.shape[1] // 12][:, :12], out[f"adapter.{k}.sub"], f"adapter {k}")
        close(adapted.mean(1), out[f"adapter.{k}.mean"], f"adapter {k} mean")
        for key in (f"group0.mask.{k}", f"train.mask.{k}"):
            assert torch.equal(mask_NM.unflatten(0, (count, -1)).to(torch.uint8), out[key]), name
    close(memory.context_KC, out["global_context"], "global context")
    windowed = memory.cells[recorded.names[-1]][..., 0].unflatten(0, (count, -1))
    close(windowed, out["group0.window.3.ch0"], "windows")
    for layer in range(3):
        after = recorded.seen[f"sva_layer{layer}"][-1].unflatten(0, (count, -1))
        close(after, out[f"group0.sva_layer{layer}"], f"connector layer {layer}")
    close(fused.y_KHWD.flatten(1, 2), out["projector_in"], "projector in")


@torch.no_grad()
def test_the_layout_of_variable_length(recorded: Recorded, close: Close) -> None:
    batch, out, model = recorded.batch(static=False), recorded.out, recorded.model
    sizes = [[len(side) for side in recorded.kept(row)] for row in range(len(recorded.sizes))]
    assert sizes == out["final_size_hw"].tolist()
    assert batch.mask_BT.sum(-1).tolist() == out["spliced_lengths"].tolist()
    x_BTE, seen = model.embed(batch)
    assert seen is not None
    logits_BTV = model.language.head(model.read(x_BTE, batch.mask_BT, seen))
    close(recorded.seen["projector"][-1].flatten(1, 2), out["projector_out"], "projector out")
    looked = recorded.seen["inllm0"][1]
    masks = looked.shown_NM.split([x_NMC.shape[1] for x_NMC in looked.cells.values()], -1)
    for k, mask_NM in enumerate(masks):
        assert torch.equal(mask_NM.to(torch.uint8), out[f"final.mask.{k}"])
    close(recorded.seen["inllm0"][0], out["inllm0.query_in"], "into the first layer inside")
    for layer in range(2):
        close(recorded.seen[f"inllm{layer}"][-1], out[f"inllm{layer}.query_out"], f"layer {layer} inside")
    for row, real_T in enumerate(batch.mask_BT):
        close(x_BTE[row, real_T], out[f"spliced_embeds.{row}"], f"embeddings {row}")
        assert torch.equal(batch.labels_BT[row, real_T], out[f"spliced_labels.{row}"])
        close(logits_BTV[row, real_T], out[f"logits.{row}"], f"logits {row}")
    total, tokens = model.loss(batch)
    assert (total / tokens).item() == pytest.approx(out["loss"].item(), abs=1e-5)


@torch.no_grad()
def test_the_static_layout_of_training(recorded: Recorded, close: Close) -> None:
    batch, out, model = recorded.batch(static=True), recorded.out, recorded.model
    length = batch.ids_BT.shape[1]
    assert torch.equal(batch.mask_BT, out["train.attention_mask"][:, :length].bool())
    assert torch.equal(batch.labels_BT, out["train.labels"][:, :length])
    logits_BTV = model.language.head(model(batch))
    for row, real_T in enumerate(batch.mask_BT):
        close(logits_BTV[row, real_T], out[f"train.logits.{row}"], f"static logits {row}")
    total, tokens = model.loss(batch)
    assert (total / tokens).item() == pytest.approx(out["train.loss"].item(), abs=1e-5)
