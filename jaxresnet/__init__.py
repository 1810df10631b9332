"""Minimal ResNet training in JAX, beside the figures that others published in PyTorch."""
