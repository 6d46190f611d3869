"""`pipeline("translation")` for a saved translation model.

transformers 5 has no translation pipeline of its own any more. This file is saved beside the model and named in its
config.json, which is transformers' own way for a model to bring its pipeline; so it must import nothing else.
"""

from typing import Any

from transformers import Pipeline

# The stubs know neither the flags below nor arguments of a pipeline's own.
_Pipeline: Any = Pipeline


class TranslationPipeline(_Pipeline):
    """Translates one sentence or a list of them, with the calls and results of transformers 4's pipeline.

    `pipe("Ein Hund rennt.")` gives `[{"translation_text": "A dog runs."}]`. Arguments such as `num_beams` or
    `max_length` go to `generate`; left out, the model's generation_config.json decides.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __call__(self, inputs: str | list[str], **kwargs: Any) -> Any:
        """Translate; a list of sentences gives one entry each, and several only where several were asked for."""
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
        """A sentence to token ids, behind the model's prefix where it has one."""
        prefix = getattr(self.model.config, "prefix", None) or ""
        # Past its positions a model fails with an index error.
        longest = getattr(self.model.config, "max_position_embeddings", None)
        limit = {"truncation": True, "max_length": longest} if truncation and longest else {}
        return self.tokenizer(prefix + input_, return_tensors="pt", **limit)

    def _forward(self, input_tensors: Any, **generate_kwargs: Any) -> Any:
        output_ids = self.model.generate(**input_tensors, **generate_kwargs)
        # The base class cuts a batch along the first dimension, so several sequences a sentence need one of their own.
        return {"output_ids": output_ids.reshape(len(input_tensors["input_ids"]), -1, output_ids.shape[-1])}

    def postprocess(self, model_outputs: Any, clean_up_tokenization_spaces: bool = False) -> list[dict[str, str]]:
        """Token ids to text, one entry a returned sequence."""
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
