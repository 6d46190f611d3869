"""``hf-momo sweep``: a script over optimizers, learning rates and seeds, and a report on the results."""
