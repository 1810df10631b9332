"""The proof that this code computes what PyTorch computes, part by part. Needs torch."""
