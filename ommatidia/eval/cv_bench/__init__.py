"""Sets like CV-Bench, built from annotations in the published formats: relation, count, depth order, distance.

The construction of Cambrian-1, section 3.2: rules write questions from ground truth, and a person then accepts, mends
or rejects each. The offsets that keep answers clear are not published; here they are fields of ``Clarity``.
"""

from ommatidia.eval.cv_bench.annotations import Scene, Thing, read_ade20k, read_coco, read_omni3d
from ommatidia.eval.cv_bench.proposals import Clarity, Proposal, counts, depth_orders, distances, relations
from ommatidia.eval.cv_bench.review import apply_review, write_review
from ommatidia.eval.cv_bench.rows import balanced_choice, build, read_rows, write_set

__all__ = [
    "Clarity",
    "Proposal",
    "Scene",
    "Thing",
    "apply_review",
    "balanced_choice",
    "build",
    "counts",
    "depth_orders",
    "distances",
    "read_ade20k",
    "read_coco",
    "read_omni3d",
    "read_rows",
    "relations",
    "write_review",
    "write_set",
]
