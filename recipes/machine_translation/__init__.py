"""The parts of the translation recipe: data, tokenizer, model, batches, evaluation."""
