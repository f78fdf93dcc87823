"""graddoctor: finds out why a neural network does not train, and shows what cures it."""
