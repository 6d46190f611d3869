"""A training script in the style of Hugging Face: the stock Trainer, its own arguments, no mention of hf_momo."""

import os
import sys
from dataclasses import dataclass, field

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, HfArgumentParser, Trainer, TrainingArguments, set_seed

VOCABULARY, LENGTH = 40, 12


@dataclass
class DataArguments:
    examples: int = field(default=32, metadata={"help": "Number of training examples."})


class Sentences(Dataset):
    """Rows of tokens in which each token determines the next."""

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        starts = torch.randint(VOCABULARY, (count, 1), generator=generator)
        self.rows = (starts + 3 * torch.arange(LENGTH)) % VOCABULARY

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def main() -> None:
    parser = HfArgumentParser((DataArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith((".yaml", ".json")):
        read = parser.parse_yaml_file if sys.argv[1].endswith(".yaml") else parser.parse_json_file
        data_args, training_args = read(os.path.abspath(sys.argv[1]))
    else:
        data_args, training_args = parser.parse_args_into_dataclasses()
    set_seed(training_args.seed)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2))
    trainer = Trainer(model=model, args=training_args, train_dataset=Sentences(data_args.examples))
    result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    trainer.save_model()
    trainer.save_metrics("all", result.metrics)
    trainer.save_state()


if __name__ == "__main__":
    main()
