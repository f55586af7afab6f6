"""Floor 4: what is measured, how, and how it is shown."""
