"""How visual tokens meet the language model."""

from ommatidia.models.injection import inline
from ommatidia.models.injection.inline import Inline
from ommatidia.models.injection.injection import Injection, InjectionConfig

__all__ = ["Injection", "InjectionConfig", "Inline", "inline"]
