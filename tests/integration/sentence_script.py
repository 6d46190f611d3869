"""A script of sentence-transformers with its own trainer and arguments, and no mention of hf_momo."""

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import HfArgumentParser

WORDS = ["<unk>", *(f"w{index}" for index in range(30))]


def main() -> None:
    # Here, as pytest imports every file for its doctests, and not every environment has the package.
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import SoftmaxLoss
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    (args,) = HfArgumentParser(SentenceTransformerTrainingArguments).parse_args_into_dataclasses()
    torch.manual_seed(0)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)])
    pairs = [
        {"sentence1": f"w{index} w{index + 1}", "sentence2": f"w{index + 1} w{29 - index}", "label": index % 3}
        for index in range(28)
    ]
    # This loss has weights of its own, which the trainer hands to the optimizer beside the model's.
    loss = SoftmaxLoss(model, embedding_dimension=16, num_labels=3)
    trainer = SentenceTransformerTrainer(model, args, train_dataset=Dataset.from_list(pairs), loss=loss)
    before = loss.classifier.weight.detach().clone()
    trainer.train()
    assert not torch.equal(before, loss.classifier.weight), "the classifier is meant to be trained"
    trainer.save_state()


if __name__ == "__main__":
    main()
