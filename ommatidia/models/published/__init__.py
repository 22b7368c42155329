"""Published checkpoints: Eagle-1, Cambrian-1 and LLaVA folders become Ommatidia folders, and back where possible."""

from ommatidia.models.published.exporting import Exported, export_checkpoint
from ommatidia.models.published.importing import FAMILIES, Imported, family_of, import_checkpoint

__all__ = ["FAMILIES", "Exported", "Imported", "export_checkpoint", "family_of", "import_checkpoint"]
