"""What the experiments share: command line, runs, results, published figures."""
