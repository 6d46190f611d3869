"""The parts of the click-through rate recipe."""
