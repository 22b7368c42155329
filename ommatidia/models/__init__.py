"""The parts of a multimodal language model, from pixels to words. Imports only the core."""
