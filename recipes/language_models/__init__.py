"""What the language modelling recipe is made of."""
