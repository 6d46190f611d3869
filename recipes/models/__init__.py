"""The models of the paper that transformers does not have, as Hugging Face models, one file each.

A file imports nothing of the recipes, because it is saved with the model, whose folder then loads anywhere by
``AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True)``.
"""
