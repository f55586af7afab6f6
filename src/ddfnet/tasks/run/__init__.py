"""One run of a task: its folder, checkpoints, history, launch, and studies of several runs."""
