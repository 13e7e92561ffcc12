"""Benchmarks of the optimisation cores on the hardware that they are run on."""
