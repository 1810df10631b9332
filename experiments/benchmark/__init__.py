"""What the benchmarks share: contestants in processes of their own that run in turn."""
