"""The parts of the image classification recipe: data, augmentation, model, Trainer."""
