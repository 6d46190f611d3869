"""What the click-through rate recipe is made of."""
