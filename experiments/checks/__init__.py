"""What is checked beside the experiments: agreement with PyTorch, and the clock."""
