"""Floor 3: datasets and transforms; the small real samples under `samples/` ship with the package."""
