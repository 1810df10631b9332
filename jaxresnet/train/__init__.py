"""State, step and loop of training, with its clock and its checkpoints."""
