"""What the image classification recipe is made of."""
