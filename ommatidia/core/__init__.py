"""Plain values every other layer speaks: configs, grids, samples, errors, the console. Imports nothing of ours."""
