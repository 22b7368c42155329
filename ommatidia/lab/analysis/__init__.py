"""Analyses of finished models: what an expert adds, whether images are needed, how benchmarks group."""
