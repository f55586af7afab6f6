"""Floor 2: layers. Each holds parameters and makes one functional call."""
