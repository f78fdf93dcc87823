"""Experiments: the yardstick, the sweep of the rate, and arms that are compared with the plain run."""
