"""The same networks, optimizers and transforms in PyTorch, to compare with. Needs torch."""
