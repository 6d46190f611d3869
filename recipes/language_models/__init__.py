"""The parts of the language modelling recipe."""
