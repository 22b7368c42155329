"""Ommatidia: a laboratory for multimodal language models that see through a mixture of vision encoders."""

__version__ = "0.1.0"
