"""Published checkpoints: Eagle-1, Cambrian-1 and LLaVA folders become Ommatidia folders, and back where possible."""

from ommatidia.models.published.importing import FAMILIES, Imported, family_of, import_checkpoint

__all__ = ["FAMILIES", "Imported", "family_of", "import_checkpoint"]
