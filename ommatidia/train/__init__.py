"""Training: stages as values, what trains and what is frozen, the step, exact resume. Import the modules themselves."""
