"""Networks that upsample depth under an RGB image."""
