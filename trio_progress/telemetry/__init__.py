"""Plain counts, histograms and log records: what an operator is told."""
