"""A downloaded folder is data: no model, recipe or data set makes a command fetch, write elsewhere, or run something.

Every command is run on folders and files that try to, in a process whose sockets, file writes, programs and imports are
watched (``watched.py``). Sound inputs run there first, so that the watch is known to let them pass.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_toys import benchmark, recipe_data
from PIL import Image

from ommatidia.core.folders import SEAL, seal
from ommatidia.lab.recipe import Recipe
from ommatidia.models.build import build_model
from ommatidia.models.pretrained import save

CLIP = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
URL = "http://127.0.0.1:9/evil.pth"
VIT = {"kind": "timm", "model": "vit_tiny_patch16_224", "image_size": 32}
SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2}
NECK = {"kind": "linear", "dim": 16}
HF = {"kind": "hf", "architecture": "CLIPVisionModel", "image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
CLIP_32 = {**CLIP, "image_size": 32, "patch_size": 8}
PACKAGE = {"kind": "package", "distribution": "x", "sha256": "0" * 64}
SITE = "{elsewhere}/site-packages"

ENCODERS: dict[str, dict[str, Any]] = {
    "timm-url": {**VIT, "args": {"pretrained": True, "cache_dir": SITE, "pretrained_cfg_overlay": {"url": URL}}},
    "timm-file": {**VIT, "args": {**SMALL, "checkpoint_path": "{elsewhere}/evil.pth"}},
    "timm-cfg": {**VIT, "args": {**SMALL, "pretrained_cfg": {"url": URL}}},
    "timm-name": {**VIT, "model": "hf-hub:evil/model"},
    "timm-hub": {**VIT, "args": SMALL, "weights": {"kind": "hub", "id": "evil/model"}},
    "hf-kernel": {**HF, "config": {**CLIP_32, "attn_implementation": "evil/kernel"}},
    "hf-inner-kernel": {**HF, "config": {**CLIP_32, "_attn_implementation_internal": "evil/kernel"}},
    "hf-code": {**HF, "config": {**CLIP_32, "auto_map": {"AutoModel": "evil/model--modeling.Evil"}}},
    "hf-quantised": {**HF, "config": {**CLIP_32, "quantization_config": {"quant_method": "mxfp4"}}},
    "hf-backbone": {
        **HF, "architecture": "DPTModel", "config": {"backbone": "evil/model", "use_pretrained_backbone": True},
    },
    "hf-inner-backbone": {
        **HF, "architecture": "DPTModel",
        "config": {"backbone_config": {"model_type": "timm_backbone", "backbone": "hf-hub:evil/model"}},
    },
    "hf-timm": {**HF, "architecture": "TimmWrapperModel", "config": {"architecture": "hf-hub:evil/model"}},
    "hf-hub": {**HF, "config": CLIP_32, "weights": {"kind": "hub", "id": "evil/model"}},
    "hub-file": {"kind": "clip", "weights": {"kind": "hub_file", "id": "evil/model", "file": "evil.pth"}},
    "pickle": {**VIT, "args": SMALL, "weights": {"kind": "file", "path": "{elsewhere}/evil.pth"}},
    "package": {
        **VIT, "args": SMALL,
        "weights": {**PACKAGE, "package": "evil.inner", "file": "x.pth"},
    },
    "package-path": {
        **VIT, "args": SMALL,
        "weights": {**PACKAGE, "package": "timm", "file": "../evil.pth"},
    },
    "diffusion": {"kind": "diffusion", "image_size": [64, 64], "unet": {"cache_dir": SITE, "use_safetensors": False}},
}  # fmt: skip
LANGUAGES: dict[str, dict[str, Any]] = {
    "hub": {"kind": "hf", "path": "evil/model", "download": True},
    "kernel": {"kind": "hf", "path": ".", "config": {"model_type": "llama", "attn_implementation": "evil/kernel"}},
    "quantised": {"kind": "hf", "path": ".", "config": {"model_type": "llama", "quantization_config": {"x": 1}}},
    "timm": {"kind": "hf", "path": ".", "config": {"model_type": "timm_wrapper", "architecture": "hf-hub:evil/model"}},
    "gguf-package": {"kind": "gguf", "package": "evil.inner", "file": "x.gguf"},
    "gguf-file": {"kind": "gguf", "package": "timm", "file": "../../x.gguf"},
}
LANGUAGE_FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "kernel": ("config.json", {"attn_implementation": "evil/kernel", "_attn_implementation": "evil/kernel"}),
    "flash": ("config.json", {"attn_implementation": "flash_attention_2"}),
    "code": ("config.json", {"model_type": "evil", "auto_map": {"AutoConfig": "modeling.Evil"}}),
    "hub-code": ("config.json", {"model_type": "evil", "auto_map": {"AutoConfig": "evil/model--modeling.Evil"}}),
    "quantised": ("config.json", {"quantization_config": {"quant_method": "mxfp4"}}),
    "tokenizer-code": (
        "tokenizer_config.json", {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["modeling.Evil", None]}}
    ),
    "tokenizer-hub": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": [None, "evil/model--modeling.Evil"]}}),
    "tokenizer-file": ("tokenizer_config.json", {"chat_template": "{{ cycler.__init__.__globals__.os.system('x') }}"}),
}  # fmt: skip


class Traps:
    """A folder in which everything waits to be run: ``tripped`` says whether something was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canary = folder / "TRIPPED"
        (folder / "site-packages").mkdir(parents=True)
        (folder / "evil" / "inner").mkdir(parents=True)
        self.code = f"import os; os.mkdir({str(self.canary)!r})\nclass Evil: pass\n"
        (folder / "evil" / "__init__.py").write_text(self.code)
        (folder / "evil" / "inner" / "__init__.py").write_text(self.code)
        self.pickle = f"cos\nmkdir\n(V{self.canary}\ntR.".encode()  # unpickled, it would make the folder
        (folder / "evil.pth").write_bytes(self.pickle)
        self.before = self.held()

    def held(self) -> list[str]:
        return sorted(str(path) for path in self.folder.rglob("*"))

    def filled(self, value: Any) -> Any:
        """Plain data with the place of the traps written in."""
        return json.loads(json.dumps(value).replace("{elsewhere}", str(self.folder)))


def sound_recipe() -> dict[str, Any]:
    data = recipe_data("coarse", steps=1)
    return {**data, "stages": data["stages"][2:], "benchmarks": data["benchmarks"][:1]}


def model_cases(work: Path, traps: Traps) -> Iterator[dict[str, Any]]:
    value = Recipe.parse(sound_recipe()).model
    good = save(build_model(value, seed=0), value, work / "sound")
    document = json.loads((good / "config.json").read_text())
    (work / "bench.yaml").write_text(yaml.safe_dump([benchmark("attributes", "general")]))
    picture = work / "green.png"
    Image.new("RGB", (40, 30), (20, 200, 20)).save(picture)

    def over(folder: Path, *commands: str) -> Iterator[dict[str, Any]]:
        out, model = str(work / "out" / folder.name), str(folder)
        if folder != good and (folder / SEAL).is_file():  # whoever makes a folder to attack makes its checksums fit
            (folder / SEAL).unlink()
            seal(folder, "model")
        options = {
            "chat": [model, "What?", "--image", str(picture), "--max-new-tokens", "1"],
            "eval": [model, "--benchmarks", str(work / "bench.yaml"), "--out", f"{out}/e", "--limit", "1"],
            "export": [model, f"{out}/x"],
            "import": [model, f"{out}/i"],
            "inspect": [model, "--image", str(picture), "--out", f"{out}/l.png"],
        }
        for command in commands or tuple(options):
            yield {"name": f"{command} {folder.name}", "arguments": [command, *options[command]]}

    yield from over(good)
    others = itertools.cycle(("eval", "export", "import", "inspect"))
    for name, encoder in ENCODERS.items():
        for elsewhere in ([], ["coarse"]) if "weights" in encoder else ([],):
            folder = work / "models" / f"{name}{'-outside' if elsewhere else ''}"
            copy(good, folder)
            changed = json.loads(json.dumps(document)) | {"elsewhere": elsewhere}
            changed["model"]["encoders"]["coarse"] = {"neck": NECK, **traps.filled(encoder)}
            (folder / "config.json").write_text(json.dumps(changed))
            yield from over(folder, "chat", next(others)) if name not in ("timm-url", "pickle") else over(folder)
    for name, (file, fields) in LANGUAGE_FILES.items():
        folder = work / "models" / f"language-{name}"
        copy(good, folder)
        path = folder / "language" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        for place in (folder, folder / "language"):
            (place / "modeling.py").write_text(traps.code)
        yield from over(folder, "chat", next(others))
    folder = work / "models" / "pickled"
    copy(good, folder)
    (folder / "model.safetensors").write_bytes(traps.pickle)
    (folder / "pytorch_model.bin").write_bytes(traps.pickle)
    yield from over(folder)
    (foreign := work / "models" / "foreign").mkdir()
    config = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
    config |= {"auto_map": {"AutoModel": "modeling.Evil"}, "text_config": {"model_type": "llama"}}
    config |= {"vision_config": CLIP_32 | {"attn_implementation": "evil/kernel"}}
    (foreign / "config.json").write_text(json.dumps(config))
    (foreign / "modeling.py").write_text(traps.code)
    (foreign / "pytorch_model.bin").write_bytes(traps.pickle)
    yield {"name": "import foreign", "arguments": ["import", str(foreign), f"{work}/out/f", "--allow-pickle"]}


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)


def recipe_cases(work: Path, traps: Traps) -> Iterator[dict[str, Any]]:
    (work / "recipes").mkdir()

    others = itertools.cycle(("plan", "inspect", "search"))

    def over(name: str, text: str, *commands: str) -> Iterator[dict[str, Any]]:
        path = work / "recipes" / f"{name}.yaml"
        path.write_text(text)
        store, out = ["--store", str(work / "out" / "store")], ["--out", str(work / "out" / name)]
        options = {"plan": store, "run": [*store, *out], "search": [*store, *out]}
        options["inspect"] = ["--out", f"{work}/out/{name}.png"]
        for command in commands or ("show", "run", next(others)):
            yield {"name": f"{command} {name}", "arguments": [command, str(path), *options.get(command, [])]}

    yield from over("sound-recipe", yaml.safe_dump(sound_recipe()), "show", "plan", "run", "inspect")
    report = ["report", "--store", f"{work}/out/store", "--out", f"{work}/out/r"]
    yield {"name": "report sound-recipe", "arguments": report}
    yield {"name": "ls sound", "arguments": ["ls"]}
    for name, encoder in ENCODERS.items():
        data = sound_recipe()
        data["model"]["encoders"]["coarse"] = {"neck": NECK, **traps.filled(encoder)}
        yield from over(f"encoder-{name}", yaml.safe_dump(data))
    for name, language in LANGUAGES.items():
        data = sound_recipe()
        data["model"]["language"] = traps.filled(language)
        yield from over(f"language-{name}", yaml.safe_dump(data))
    yield from over("tag", f"!!python/object/apply:os.mkdir ['{traps.canary}']")
    yield from over("tag-inside", f"name: !!python/object/apply:os.mkdir ['{traps.canary}']\nmodel: {{}}")


def data_cases(work: Path, traps: Traps) -> Iterator[dict[str, Any]]:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
    folder = work / "data"
    folder.mkdir()
    (folder / "a.png").write_bytes(eps)
    (folder / "p.png").write_bytes(traps.pickle)
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}]
    for name, image in (
        ("eps", "a.png"), ("pickle", "p.png"), ("url", URL), ("file", "file:///etc/passwd"), ("long", "A" * 5000),
        ("device", "/dev/stdin"), ("nul", "a\0b.png"),
    ):  # fmt: skip
        path = folder / f"{name}.json"
        path.write_text(json.dumps([{"id": name, "image": image, "conversations": turns}]))
        yield {"name": f"data-check {name}", "arguments": ["data", "check", str(path), "--images", str(folder)]}
        if name not in ("eps", "url", "long"):
            continue
        out = ["--store", str(work / "out" / "store"), "--out", str(work / "out" / name)]
        own = ["experts=patches@32", "grid=2", "steps=1", "batch=1"]
        where = [f"data={path}", f"images={folder}"]
        yield {"name": f"run {name}", "arguments": ["run", "ommatidia.recipes.own_data:llava", *where, *own, *out]}
    with tarfile.open(folder / "shard-000.tar", "w") as tar:
        for member, content in (
            ("0.jpg", eps),
            ("0.pth", traps.pickle),
            ("../../1.json", b"{}"),
            ("0.pyd", traps.pickle),
        ):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    yield {"name": "data-check shards", "arguments": ["data", "check", str(folder / "shard-000.tar")]}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command of ``CASES`` did, by its name, and the traps."""
    work = tmp_path_factory.mktemp("downloaded")
    traps = Traps(work / "elsewhere")
    cases = [*model_cases(work, traps), *recipe_cases(work, traps), *data_cases(work, traps)]
    (work / "cases.json").write_text(json.dumps(cases))
    (work / "bin").mkdir()
    for program in ("gs", "gswin64c"):
        fake = work / "bin" / program
        fake.write_text(f"#!/bin/sh\nmkdir {traps.canary}\n")
        fake.chmod(0o755)
    places = {"TMPDIR": work / "tmp", "HF_HOME": work / "hub", "OMMATIDIA_CACHE": work / "cache", "HOME": work / "home"}
    for place in (*places.values(), work / "out"):
        place.mkdir(exist_ok=True)
    environment = {
        "PATH": f"{work / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "HF_ENDPOINT": "http://127.0.0.1:9", "MPLCONFIGDIR": str(work / "tmp"), "COLUMNS": "400", "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), str(traps.folder)]),
        **{name: str(place) for name, place in places.items()},
    }  # fmt: skip
    allowed = [work / "out", *places.values()]
    program = [
        sys.executable,
        str(Path(__file__).with_name("watched.py")),
        str(work / "cases.json"),
        *map(str, allowed),
    ]
    done = subprocess.run(program, env=environment, cwd=work / "out", capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((work / "out" / "found.json").read_text())
    return {"cases": found, "traps": traps}


@pytest.mark.slow
def test_sound_inputs_do_their_work_under_the_watch(watched: dict[str, Any]) -> None:
    sound = [case for case in watched["cases"] if "sound" in case["name"]]
    assert len(sound) >= 9
    assert {case["name"]: case["said"][-500:] for case in sound if case["code"]} == {}


@pytest.mark.slow
def test_nothing_fetches_writes_elsewhere_or_starts_anything(watched: dict[str, Any]) -> None:
    assert len(watched["cases"]) > 120
    assert {case["name"]: case["notes"] for case in watched["cases"] if case["notes"]} == {}
    assert watched["traps"].held() == watched["traps"].before


@pytest.mark.slow
def test_every_refusal_is_one_of_ours(watched: dict[str, Any]) -> None:
    crashed = {case["name"]: case["said"][-600:] for case in watched["cases"] if case["code"] not in (0, 1)}
    assert crashed == {}


@pytest.mark.slow
def test_what_could_fetch_or_run_is_refused_by_name(watched: dict[str, Any]) -> None:
    said = {case["name"]: case for case in watched["cases"]}
    assert "args.pretrained: refused" in said["chat timm-url"]["said"]
    assert "args.cache_dir: refused" in said["show encoder-timm-url"]["said"]
    assert (
        "not in the hub's cache and may not be fetched; allow it with --download"
        in said["run encoder-hub-file"]["said"]
    )
    refused = [name for name, case in said.items() if case["name"].startswith("show encoder-") and case["code"] == 1]
    reached_only_when_built = {"timm-hub", "hf-hub", "hub-file", "pickle"}
    assert {name.removeprefix("show encoder-") for name in refused} == set(ENCODERS) - reached_only_when_built
    assert all(case["code"] == 1 for name, case in said.items() if name.startswith("run encoder-"))
