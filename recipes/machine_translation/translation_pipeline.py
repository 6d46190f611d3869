"""``pipeline("translation")`` for saved translation models.

transformers 5 has no translation pipeline. This file is saved beside the model and named in its config.json as custom
pipeline, so it imports nothing but transformers.
"""

from typing import Any

from transformers import Pipeline

# The type stubs lack the flags below and further arguments of a pipeline.
_Pipeline: Any = Pipeline


class TranslationPipeline(_Pipeline):
    """Pipeline that translates one sentence or a list of sentences, with the interface of transformers 4.

    ``pipe("Ein Hund rennt.")`` returns ``[{"translation_text": "A dog runs."}]``. Arguments such as ``num_beams`` or
    ``max_length`` are passed to ``generate``; the defaults are those in generation_config.json.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: str | list[str], **kwargs: Any) -> Any:
        """Translate; the result for each sentence of a list is one entry, or a list with ``num_return_sequences``."""
        results = super().__call__(inputs, **kwargs)
        if isinstance(inputs, list) and all(len(each) == 1 for each in results):
            return [each[0] for each in results]
        return results

    def _sanitize_parameters(
        self, truncation: bool = True, clean_up_tokenization_spaces: bool = False, **generate_kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        decoding = {"clean_up_tokenization_spaces": clean_up_tokenization_spaces}
        return {"truncation": truncation}, generate_kwargs, decoding

    def preprocess(self, input_: str, truncation: bool = True) -> Any:
        """Return the token ids of a sentence, with the prefix of the model."""
        prefix = getattr(self.model.config, "prefix", None) or ""
        # A sequence longer than the position embeddings fails with an IndexError.
        longest = getattr(self.model.config, "max_position_embeddings", None)
        limit = {"truncation": True, "max_length": longest} if truncation and longest else {}
        return self.tokenizer(prefix + input_, return_tensors="pt", **limit)

    def _forward(self, input_tensors: Any, **generate_kwargs: Any) -> Any:
        output_ids = self.model.generate(**input_tensors, **generate_kwargs)
        # The base class splits a batch along its first dimension, so the sequences of a sentence need a second one.
        return {"output_ids": output_ids.reshape(len(input_tensors["input_ids"]), -1, output_ids.shape[-1])}

    def postprocess(self, model_outputs: Any, clean_up_tokenization_spaces: bool = False) -> list[dict[str, str]]:
        """Return the text of each generated sequence."""
        return [
            {
                "translation_text": self.tokenizer.decode(
                    token_ids,
                    skip_special_tokens=True,
                    clean_up_tokenization_spaces=clean_up_tokenization_spaces,
                ).strip()
            }
            for token_ids in model_outputs["output_ids"][0]
        ]
