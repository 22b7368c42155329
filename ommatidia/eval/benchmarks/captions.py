"""Captions scored by CIDEr: COCO, NoCaps and Flickr30k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from ommatidia.core.types import Sample
from ommatidia.eval.benchmark import Group
from ommatidia.eval.benchmarks.published import Answer, Facts, Place, Published, Versions
from ommatidia.eval.benchmarks.releases import coco

_PROMPT = "Provide a one-sentence caption for the provided image."
_METRIC = "CIDEr-D on our PTB-like tokens (cider_ptb_like; the headline is a tenth of it)"
_TRAPS = "rarity is counted within the evaluated set, so parts and other splits are not comparable; "


class CocoCaptions(Published):
    """COCO captions (Chen et al. 2015), validation of 2017 or of 2014."""

    kind: Literal["coco_captions"] = "coco_captions"
    group: Group = "general"

    facts = Facts(
        title="COCO captions",
        repository="lmms-lab/COCO-Caption2017",
        splits={"val": 5000},
        metric=_METRIC,
        traps=_TRAPS + "papers mostly use the Karpathy test split",
    )
    release = coco.COCO_CAPTIONS
    versions: ClassVar[Versions] = {"lmms-eval": {"max_new_tokens": 64, "scorer": "cider"}}
    columns = ("image", "answer", "question_id")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        return at.sample(row["question_id"], _PROMPT, [row["image"]], row["answer"])


class NoCaps(Published):
    """NoCaps (Agrawal et al. 2019): objects that COCO captions never name."""

    kind: Literal["nocaps"] = "nocaps"
    group: Group = "general"

    facts = Facts(
        title="NoCaps",
        repository="lmms-lab/NoCaps",
        splits={"validation": 4500, "test": 10600},
        metric=_METRIC,
        traps=_TRAPS + "test is scored by a server",
    )
    release = coco.NOCAPS
    versions: ClassVar[Versions] = {"lmms-eval": {"max_new_tokens": 64, "scorer": "cider"}}
    columns = ("image", "image_id")
    served = frozenset({"test"})

    def submitted(self, answers: Sequence[Answer]) -> list[dict[str, Any]]:
        return [{"image_id": int(answer.sample.id), "caption": answer.text} for answer in answers]

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        captions = row.get("annotations_captions") or []
        return at.sample(row["image_id"], _PROMPT, [row["image"]], captions)


class Flickr30k(Published):
    """Flickr30k (Young et al. 2014): five captions a photograph."""

    kind: Literal["flickr30k"] = "flickr30k"
    group: Group = "general"

    facts = Facts(
        title="Flickr30k",
        repository="lmms-lab/flickr30k",
        splits={"test": 0},
        metric=_METRIC,
        traps=_TRAPS + "this copy's test is the whole set, papers use the 1,000 of Karpathy's test",
    )
    release = coco.FLICKR30K
    versions: ClassVar[Versions] = {"lmms-eval": {"max_new_tokens": 64, "scorer": "cider"}}
    columns = ("image", "caption", "img_id")

    def ask(self, row: Mapping[str, Any], at: Place) -> Sample:
        return at.sample(row["img_id"], _PROMPT, [row["image"]], row["caption"])
