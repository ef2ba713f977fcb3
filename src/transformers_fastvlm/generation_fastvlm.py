# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What only `generate` needs: images encoded once and kept with their prompts, chunked prefill, refusals, stops."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig
from transformers.utils import GENERATION_CONFIG_NAME, logging

from .checkpoint_formats import source_format
from .outputs_fastvlm import CACHE_NAME, FastVLMImageFeatures, is_start
from .prompt_checks import (
    context_length,
    raise_on_bad_embeddings,
    raise_on_bad_ids,
    raise_on_bad_mask,
    raise_on_long_prompt,
    raise_on_masked_placeholders,
    raise_on_mismatch,
    raise_on_right_padding,
)

logger = logging.get_logger(__name__)


class FastVLMGenerationMixin(GenerationMixin):
    """`generate` for [`FastVLMForConditionalGeneration`]."""

    def adjust_generation_fn(
        self, generation_config, from_auto_class, from_pipeline, pretrained_model_name_or_path, *args, **kwargs
    ) -> None:
        """
        The last step of loading: the generation settings, with stop tokens that end a turn.

        Raises:
            ValueError: if the checkpoint's `generation_config.json` has a value that it cannot have.
        """
        source = pretrained_model_name_or_path
        is_read = generation_config is None and source is not None
        try:
            super().adjust_generation_fn(generation_config, from_auto_class, from_pipeline, source, *args, **kwargs)
        except (AttributeError, TypeError, ValueError) as error:
            if is_read:
                raise ValueError(f"The {GENERATION_CONFIG_NAME} of {source} has a bad value: {error}") from error
            raise
        loaded, stops = self.generation_config, self.config.text_config.eos_token_id  # type: ignore[attr-defined]
        if is_read:
            _raise_on_bad_tokens(loaded, source)
        # An original checkpoint's generation file names no stop token, an upstream one's the wrong one.
        is_foreign = is_read and source_format(source, kwargs) != "own"
        if stops is not None and (loaded.eos_token_id is None or is_foreign):
            loaded.eos_token_id = stops
        stops = loaded.eos_token_id
        if stops is not None and loaded.pad_token_id is None:
            loaded.pad_token_id = stops[-1] if isinstance(stops, list) else stops

    def raise_on_bad_prompt(
        self, input_ids, inputs_embeds, has_images: bool, cache: Any, position_ids: torch.Tensor | None = None
    ) -> None:
        """Refuse what would be answered wrongly in silence: placeholders without image, text past the context."""
        if torch.compiler.is_compiling() or not is_start(cache):
            return
        if inputs_embeds is None:
            raise_on_bad_ids(input_ids, self.config.text_config.vocab_size)  # type: ignore[attr-defined]
        prompt = input_ids if inputs_embeds is None else inputs_embeds
        # Of texts packed into one row, each begins anew.
        length = prompt.shape[1] if position_ids is None else int(position_ids.max()) + 1
        raise_on_long_prompt(self.config.text_config, length)  # type: ignore[attr-defined]
        if inputs_embeds is None and not has_images:
            raise_on_mismatch(self.model.get_placeholder_mask(input_ids), None)  # type: ignore[attr-defined]

    def _prepare_model_inputs(self, inputs=None, bos_token_id=None, model_kwargs=None):
        """The first that sees all of a prompt: looks at it, and leaves what the caller gave as it is."""
        model_kwargs = {name: value for name, value in (model_kwargs or {}).items() if value is not None}
        if "mm_encoder_outputs" in model_kwargs:  # transformers writes into it
            model_kwargs["mm_encoder_outputs"] = dict(model_kwargs["mm_encoder_outputs"])
        ids = inputs if inputs is not None else model_kwargs.get("input_ids")
        embeds, mask = model_kwargs.get("inputs_embeds"), model_kwargs.get("attention_mask")
        starts = is_start(model_kwargs.get(CACHE_NAME))
        if embeds is not None:
            raise_on_bad_embeddings(embeds, self.get_input_embeddings().embedding_dim)  # type: ignore[attr-defined]
            raise_on_bad_mask(mask, embeds.shape[:2], starts)
        elif ids is not None:
            raise_on_bad_ids(ids, self.config.text_config.vocab_size)  # type: ignore[attr-defined]
            raise_on_bad_mask(mask, ids.shape, starts)
            raise_on_masked_placeholders(self.model.get_placeholder_mask(ids), mask)  # type: ignore[attr-defined]
        return super()._prepare_model_inputs(inputs, bos_token_id, model_kwargs)

    def prepare_inputs_for_generation(
        self, input_ids, inputs_embeds=None, is_first_iteration: bool = False, **kwargs
    ) -> dict[str, Any]:
        # The assistant in assisted decoding is never told about its first iteration; its cache tells.
        cache = kwargs.get(CACHE_NAME)
        is_first_iteration = is_first_iteration or (cache is not None and is_start(cache))
        inputs = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            # transformers 5.16 knows `pixel_values` as an input of the prefill alone, but not this.
            inputs.pop("mm_encoder_outputs", None)
        elif inputs.get("mm_encoder_outputs") and kwargs.get("next_sequence_length") is not None:
            image = inputs["mm_encoder_outputs"]["image"]
            inputs["mm_encoder_outputs"] = self._after_cache(image, input_ids, kwargs["next_sequence_length"])
        return inputs

    def _after_cache(self, image: FastVLMImageFeatures, input_ids: torch.Tensor, new_positions: int) -> dict[str, Any]:
        """A conversation that goes on from a cache may come with all its images: those in the cache are left out."""
        mask = self.model.get_placeholder_mask(input_ids)  # type: ignore[attr-defined]
        features = image.pooler_output
        assert features is not None
        if features.shape[:-1].numel() != int(mask.sum()):
            return {"image": image}
        is_new = mask.clone()
        is_new[:, :-new_positions] = False
        kept = features.reshape(-1, features.shape[-1])[is_new[mask]]  # (tokens, hidden)
        return {"image": FastVLMImageFeatures(pooler_output=kept)} if len(kept) else {}

    def _expand_inputs_for_generation(  # type: ignore[override]
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids=None, **model_kwargs
    ):
        """Encode the images once, then repeat each prompt's group of images along with the prompt."""
        embeds = model_kwargs.get("inputs_embeds")
        encoded = (model_kwargs.pop("mm_encoder_outputs", None) or {}).get("image")
        pixel_values = model_kwargs.pop("pixel_values", None)
        raise_on_right_padding(model_kwargs.get("attention_mask"))
        self.raise_on_bad_prompt(
            input_ids, embeds, encoded is not None or pixel_values is not None, model_kwargs.get(CACHE_NAME)
        )
        if encoded is None and pixel_values is not None:
            encoded = self.get_image_features(pixel_values, return_dict=True)  # type: ignore[attr-defined]
        if encoded is not None:
            features = encoded.pooler_output
            ids = input_ids if embeds is None else None
            mask = self.model.get_placeholder_mask(ids, embeds)  # type: ignore[attr-defined]
            if is_start(model_kwargs.get(CACHE_NAME)):
                raise_on_mismatch(mask, features)
            if expand_size > 1:
                crops = (mask.sum(1) // features.shape[1]).tolist()
                features = torch.cat([group.repeat(expand_size, 1, 1) for group in features.split(crops)])
        length = input_ids.shape[1] if embeds is None else embeds.shape[1]
        input_ids, model_kwargs = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **model_kwargs
        )
        if encoded is not None:
            image = FastVLMImageFeatures(pooler_output=features, prompt_length=length)
            model_kwargs["mm_encoder_outputs"] = {"image": image}
        return input_ids, model_kwargs

    def _prepare_generated_length(self, generation_config, *args, **kwargs):
        """Ends decoding where the decoder's context ends."""
        generation_config = super()._prepare_generated_length(generation_config, *args, **kwargs)
        context = context_length(self.config.text_config)  # type: ignore[attr-defined]
        if context is None:
            return generation_config
        if kwargs["model_input_name"] == "inputs_embeds":  # not counted in `max_length` then
            context -= kwargs["inputs_tensor"].shape[1] - kwargs["input_ids_length"]
        if generation_config.max_length > context:
            _say_that_context_ends(self.config.text_config)  # type: ignore[attr-defined]
            generation_config.max_length = context
        return generation_config

    def _prefill(self, input_ids, generation_config, model_kwargs, *args, **kwargs):
        """Prefill in chunks (`prefill_chunk_size`) cuts the prompt, visual tokens included, wherever a chunk ends."""
        encoded = (model_kwargs.get("mm_encoder_outputs") or {}).get("image")
        chunk_size = generation_config.prefill_chunk_size
        if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
            raise ValueError(f"`prefill_chunk_size` is a number of tokens, at least 1, not {chunk_size!r}.")
        if chunk_size is None or encoded is None or not is_start(model_kwargs.get(CACHE_NAME)):
            return super()._prefill(input_ids, generation_config, model_kwargs, *args, **kwargs)
        embeds = model_kwargs.pop("inputs_embeds", None)
        if embeds is None:
            embeds = self.get_input_embeddings()(input_ids)  # type: ignore[attr-defined]
        ids = input_ids if input_ids.shape[1] == embeds.shape[1] else None
        embeds = self.model.insert_image_features(ids, embeds, encoded.pooler_output)  # type: ignore[attr-defined]
        whole = {name: model_kwargs.pop(name, None) for name in ("attention_mask", "position_ids")}
        rest = {name: value for name, value in model_kwargs.items() if name != "mm_encoder_outputs"}
        end = 0
        for chunk in embeds.split(chunk_size, dim=1):
            start, end = end, end + chunk.shape[1]
            if whole["attention_mask"] is not None:
                rest["attention_mask"] = whole["attention_mask"][:, :end]
            if whole["position_ids"] is not None:
                rest["position_ids"] = whole["position_ids"][..., start:end]
            inputs = self.prepare_inputs_for_generation(
                input_ids[:, start:end], inputs_embeds=chunk, is_first_iteration=True, **rest
            )
            outputs = self(**inputs, return_dict=True)  # type: ignore[operator]
            rest[CACHE_NAME] = outputs[CACHE_NAME]
        model_kwargs.update({name: value for name, value in whole.items() if value is not None})
        model_kwargs[CACHE_NAME] = outputs[CACHE_NAME]
        return outputs

    def generate_batch(self, inputs, *args, **kwargs):
        """Continuous batching, of prompts without images. As in transformers, and

        Raises:
            ValueError: if a prompt has placeholder tokens, for whose images it has no way in, or is longer than the
                decoder's context.
        """
        for prompt in inputs:  # its own loop would only log what its requests raise
            self._raise_on_bad_request(prompt)
        return super().generate_batch(inputs, *args, **kwargs)

    def init_continuous_batching(self, *args, **kwargs):
        """A manager of continuous batching whose requests are checked as those of `generate_batch` are."""
        manager = super().init_continuous_batching(*args, **kwargs)
        checked = self._checked(manager.add_request, manager.generation_config.max_new_tokens)
        manager.add_request = checked  # type: ignore[method-assign]
        return manager

    def _checked(self, add_request: Callable, default_new_tokens: int | None) -> Callable:
        text_config = self.config.text_config  # type: ignore[attr-defined]

        def add_checked_request(input_ids, request_id=None, max_new_tokens=None, *args, **kwargs):
            self._raise_on_bad_request(input_ids)
            wanted = default_new_tokens if max_new_tokens is None else max_new_tokens
            context = context_length(text_config)
            if context is not None and (wanted is None or len(input_ids) + wanted > context):
                if wanted is not None:
                    _say_that_context_ends(text_config)
                wanted = context - len(input_ids)
            return add_request(input_ids, request_id, wanted, *args, **kwargs)

        return add_checked_request

    def _raise_on_bad_request(self, input_ids: Sequence[int]) -> None:
        raise_on_long_prompt(self.config.text_config, len(input_ids))  # type: ignore[attr-defined]
        placeholders = list(input_ids).count(self.config.image_token_id)  # type: ignore[attr-defined]
        if placeholders:
            raise ValueError(
                f"The prompt has {placeholders} placeholder tokens, but continuous batching takes no images: use "
                "`generate`."
            )


def _raise_on_bad_tokens(settings: GenerationConfig, source: Any) -> None:
    """Raise if a checkpoint's special tokens are no ids: `generate` would only fail on them."""
    for name in ("bos_token_id", "pad_token_id", "eos_token_id", "suppress_tokens", "begin_suppress_tokens"):
        value = getattr(settings, name)
        is_list = name.endswith("_tokens") or (name == "eos_token_id" and isinstance(value, list))
        ids = value if is_list else [value]
        if value is not None and not (isinstance(ids, list) and all(type(each) is int for each in ids)):
            raise ValueError(f"The {GENERATION_CONFIG_NAME} of {source} has a bad value: `{name}` is {value!r}.")


def _say_that_context_ends(text_config: PretrainedConfig) -> None:
    logger.warning_once(
        f"More tokens are asked for than fit in the decoder's context of {context_length(text_config)}, prompt "
        "included: decoding stops where that ends."
    )


__all__ = ["FastVLMGenerationMixin"]
