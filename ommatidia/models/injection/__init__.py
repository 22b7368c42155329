"""How visual tokens meet the language model."""

from ommatidia.models.injection import inline
from ommatidia.models.injection.injection import Attends, Injection, InjectionConfig, Seen
from ommatidia.models.injection.inline import Inline

__all__ = ["Attends", "Injection", "InjectionConfig", "Inline", "Seen", "inline"]
