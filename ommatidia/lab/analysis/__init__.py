"""Analyses of finished models: what an expert adds, whether pictures are needed, how benchmarks group."""
