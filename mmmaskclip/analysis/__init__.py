"""What only tools import: cost, comparison of runs, budgets, random batches."""
