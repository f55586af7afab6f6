"""The paper's tables beside ours: what is printed, what is counted and measured here, and both side by side."""
