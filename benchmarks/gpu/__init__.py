"""What needs a CUDA device. Each measurement is one script with a bounded run time that prints JSON."""
