"""From recipes to finished nodes: the plan, the checks before it, its execution, and the record of it."""
