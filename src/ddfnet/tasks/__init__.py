"""Floor 4: one Lightning module and data module a task, and the run folder they fill."""
