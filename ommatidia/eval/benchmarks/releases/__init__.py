"""The files in which benchmarks were first released, read as rows in the columns of their copies on the hub."""
