"""How visual tokens meet the language model."""

from ommatidia.models.injection import inline
from ommatidia.models.injection.cross_attention import CrossAttention
from ommatidia.models.injection.deep_sva import DeepSVA
from ommatidia.models.injection.hybrid import Hybrid
from ommatidia.models.injection.injection import (
    Attends,
    Injection,
    InjectionConfig,
    InjectionContext,
    VisualContext,
)
from ommatidia.models.injection.inline import Inline

__all__ = [
    "Attends",
    "CrossAttention",
    "DeepSVA",
    "Hybrid",
    "Injection",
    "InjectionConfig",
    "InjectionContext",
    "Inline",
    "VisualContext",
    "inline",
]
