"""Operations written for the CPU, where XLA's own, or the gradients that JAX derives, are slow."""
