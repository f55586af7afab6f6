"""The DDF operation, Eq. 2: `api` is its front door, `reference` its definition."""
