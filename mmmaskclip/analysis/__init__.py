"""Analysis behind the tools: cost of a step, training budgets, comparison of runs, records of results, fuzzing."""
