"""How visual tokens meet the language model."""

from ommatidia.models.injection import inline
from ommatidia.models.injection.injection import Injection, InjectionConfig
from ommatidia.models.injection.inline import Inline

__all__ = ["Injection", "InjectionConfig", "Inline", "inline"]
