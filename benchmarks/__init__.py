"""What docs and README claim, measured. ``python -m benchmarks`` runs everything and keeps the results as JSON."""
