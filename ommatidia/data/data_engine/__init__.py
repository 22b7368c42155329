"""Cambrian-1's data engine over a local corpus: topics, documents with images, questions and answers."""

from ommatidia.data.data_engine.engine import DataEngine, Written, write

__all__ = ["DataEngine", "Written", "write"]
