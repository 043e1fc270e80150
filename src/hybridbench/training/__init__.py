"""Models, optimizers and the loop that trains them and writes what happened as records."""
