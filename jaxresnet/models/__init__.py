"""Residual networks in Flax NNX. Models know no data."""
