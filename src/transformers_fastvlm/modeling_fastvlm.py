# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM (arXiv 2412.13303): FastViTHD, a two-layer projector and a causal language model.

Every image, and every tile of one, is a square of R pixels that becomes (R / 64)² visual tokens, row by row. They take
the places of the placeholder tokens in the prompt, in order.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn
from transformers import AutoModel, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.modeling_outputs import BaseModelOutputWithPast, BaseModelOutputWithPooling, ModelOutput
from transformers.utils.generic import can_return_tuple

from .checkpoint_formats import model_renamings
from .configuration_fastvlm import FastVLMConfig
from .loading import CheckpointLoadingMixin
from .modeling_fastvithd import FastViTHDModel


@dataclass
class FastVLMModelOutputWithPast(BaseModelOutputWithPast):
    """
    Output of [`FastVLMModel`]: as of any decoder, and

    Args:
        image_hidden_states (`torch.Tensor` of shape `(crops, tokens, hidden)`, *optional*): the visual tokens.
    """

    image_hidden_states: torch.Tensor | None = None


@dataclass
class FastVLMCausalLMOutputWithPast(ModelOutput):
    """
    Output of [`FastVLMForConditionalGeneration`].

    Args:
        loss (`torch.Tensor` of shape `(1,)`, *optional*, with `labels`): mean next-token cross-entropy.
        logits (`torch.Tensor` of shape `(batch, positions, vocab)`): scores of the next token.
        past_key_values (`Cache`, *optional*): keys and values for the next call.
        hidden_states, attentions (`tuple[torch.Tensor]`, *optional*): of the decoder, one per layer.
        image_hidden_states (`torch.Tensor` of shape `(crops, tokens, hidden)`, *optional*): the visual tokens.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None


@dataclass
class FastVLMImageFeatures(BaseModelOutputWithPooling):
    """
    Output of `get_image_features`.

    Args:
        last_hidden_state (`torch.Tensor` of shape `(crops, channels, R / stride, R / stride)`): the feature map.
        pooler_output (`torch.Tensor` of shape `(crops, tokens, hidden)`): the visual tokens.
        prompt_length (`int`, *optional*): set by `generate`; a placeholder token from this position on is one that the
            decoder made up, and stands for no image.
    """

    prompt_length: int | None = None


class FastVLMMultiModalProjector(nn.Module):
    """Maps the encoder's features, position by position, into the decoder's embedding space."""

    def __init__(self, config: FastVLMConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.linear_1 = nn.Linear(config.vision_config.hidden_size, width, bias=config.projector_bias)
        self.act = ACT2FN[config.projector_hidden_act]
        self.linear_2 = nn.Linear(width, width, bias=config.projector_bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear_2(self.act(self.linear_1(features)))


# Here, so that it also holds where these files are used without the package, as remote code.
register_checkpoint_conversion_mapping(FastVLMConfig.model_type, model_renamings(), overwrite=True)


class FastVLMPreTrainedModel(CheckpointLoadingMixin, PreTrainedModel):
    """Base of FastVLM's classes: loading, and what transformers asks about a model."""

    config: FastVLMConfig
    config_class = FastVLMConfig
    base_model_prefix = "model"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    # In float16 only: the encoder's activations exceed its range.
    _keep_in_fp32_modules = ["vision_tower"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True

    @property
    def dtype(self) -> torch.dtype:
        """The decoder's. The encoder has another where that is float16, and comes first among the parameters."""
        return self.base_model.language_model.dtype  # type: ignore[union-attr, return-value]

    def reparameterize(self):
        """Turn the encoder's training form into the faster inference form, in place; see [`FastViTHDModel`].

        Returns:
            the model itself.
        """
        self.base_model.vision_tower.reparameterize()  # type: ignore[union-attr, operator]
        return self


class FastVLMModel(FastVLMPreTrainedModel):
    """Encoder, projector and decoder, without language modeling head. The decoder is any that `AutoModel` builds."""

    def __init__(self, config: FastVLMConfig):
        super().__init__(config)
        self.vision_tower = FastViTHDModel(config.vision_config)
        if self.vision_tower.projection is not None:
            # The CLIP head rides along for the encoder's own users; no loss of the VLM reaches it.
            self.vision_tower.projection.requires_grad_(False)
        self.multi_modal_projector = FastVLMMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @can_return_tuple
    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> FastVLMImageFeatures:
        """
        Encode and project images.

        Args:
            pixel_values (`torch.Tensor` of shape `(crops, 3, R, R)`): RGB in 0..1. The overview and the tiles of a
                tiled image are crops like any other.

        Returns:
            [`FastVLMImageFeatures`]: `pooler_output` holds the visual tokens, `(crops, (R / stride)², hidden)`;
            `last_hidden_state` the encoder's feature map.
        """
        encoded = self.vision_tower(pixel_values, return_dict=True, **kwargs)
        features = encoded.last_hidden_state.flatten(2).transpose(1, 2)  # (crops, tokens, channels)
        dtype = self.multi_modal_projector.linear_2.bias.dtype if self.config.projector_bias else self.dtype
        return FastVLMImageFeatures(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=self.multi_modal_projector(features.to(dtype)),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def get_placeholder_mask(
        self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Where the placeholder tokens are, `(batch, positions)` booleans, told from ids or from their embeddings."""
        if input_ids is not None:
            return input_ids == self.config.image_token_id
        assert inputs_embeds is not None
        token = torch.tensor(self.config.image_token_id, device=inputs_embeds.device)
        return (inputs_embeds == self.get_input_embeddings()(token)).all(-1)

    def insert_image_features(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor,
        features: torch.Tensor,
        prompt_length: int | None = None,
    ) -> torch.Tensor:
        """
        Put visual tokens in the places of the placeholder tokens, in order.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, positions)`, *optional*): tells where the placeholders are.
            inputs_embeds (`torch.Tensor` of shape `(batch, positions, hidden)`): embeddings of the prompt.
            features (`torch.Tensor` of shape `(crops, tokens, hidden)` or `(tokens, hidden)`): the visual tokens.
            prompt_length (`int`, *optional*): leave placeholders from this position on alone.

        Raises:
            ValueError: if there are not as many placeholders as visual tokens.
        """
        mask = self.get_placeholder_mask(input_ids, inputs_embeds).to(inputs_embeds.device)
        if prompt_length is not None:
            mask[:, prompt_length:] = False
        if not torch.compiler.is_compiling() and not mask.is_meta:
            _raise_on_mismatch(int(mask.sum()), features)
        return inputs_embeds.masked_scatter(mask.unsqueeze(-1), features.to(inputs_embeds.device, inputs_embeds.dtype))

    def _others_wait_for_encoder(self) -> bool:
        """Whether other processes need this one to run the encoder though it has no image: for its share of the
        weights (FSDP, ZeRO-3), or for its gradients (DDP). Without that, a batch of text alone stops them all."""
        if torch.compiler.is_compiling() or not (distributed.is_available() and distributed.is_initialized()):
            return False
        parts = (self.vision_tower, self.multi_modal_projector)
        weights = [parameter for part in parts for parameter in part.parameters()]
        if any(hasattr(weight, "device_mesh") or hasattr(weight, "ds_id") for weight in weights):
            return True
        return torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)

    def _encode_blank_image(self) -> torch.Tensor:
        """The visual tokens of a small black image; batch norms do not learn its statistics."""
        encoder, side = self.vision_tower, 2 * self.vision_tower.config.stride
        training = encoder.training
        encoder.eval()
        blank = torch.zeros(1, encoder.config.num_channels, side, side, dtype=encoder.dtype, device=encoder.device)
        features = self.get_image_features(blank, return_dict=True).pooler_output
        encoder.train(training)
        return features

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs,
    ) -> FastVLMModelOutputWithPast:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, positions)`, *optional*): token ids with one
                `config.image_token_id` per visual token.
            pixel_values (`torch.Tensor` of shape `(crops, 3, R, R)`, *optional*): all images of the batch, in the
                order of their placeholders.
            inputs_embeds (`torch.Tensor` of shape `(batch, positions, hidden)`, *optional*): instead of `input_ids`.
            mm_encoder_outputs (`dict`, *optional*): `{"image": ...}` with the output of `get_image_features`, instead
                of `pixel_values`, for images encoded ahead.
            attention_mask, position_ids, past_key_values, **kwargs: as the decoder takes them.

        Raises:
            ValueError: if there are images and they do not match the placeholders.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either `input_ids` or `inputs_embeds`.")
        encoded = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None and encoded is not None:
            raise ValueError("Give either `pixel_values` or `mm_encoder_outputs`, not both.")
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)

        if pixel_values is not None:
            encoded = self.get_image_features(pixel_values, return_dict=True)
        features: torch.Tensor | None = None
        if encoded is not None:
            features = encoded.pooler_output
            assert features is not None
            prompt_length = encoded.get("prompt_length")
            inputs_embeds = self.insert_image_features(input_ids, inputs_embeds, features, prompt_length)
        elif _is_start(past_key_values) and self._others_wait_for_encoder():
            inputs_embeds = inputs_embeds + 0 * self._encode_blank_image().sum()

        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            return_dict=True,
            **kwargs,
        )
        return FastVLMModelOutputWithPast(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.get("past_key_values"),
            hidden_states=outputs.get("hidden_states"),
            attentions=outputs.get("attentions"),
            image_hidden_states=features,
        )


def _is_start(past_key_values: Cache | None) -> bool:
    """Whether this is a prompt's beginning. Later, a placeholder's id can only be one that the decoder made up."""
    return past_key_values is None or int(past_key_values.get_seq_length()) == 0


def _raise_on_long_prompt(text_config: PretrainedConfig, positions: int) -> None:
    rope = getattr(text_config, "rope_parameters", None) or {}
    context = getattr(text_config, "max_position_embeddings", None)
    if context is not None and positions > context * max(1, rope.get("factor") or 1):
        raise ValueError(
            f"The prompt has {positions} tokens, visual ones included, but the decoder's context is {context}. "
            "Shorten the text, or lower the images' resolution or number of tiles."
        )


def _raise_on_mismatch(placeholders: int, features: torch.Tensor | None) -> None:
    tokens = features.shape[:-1].numel() if features is not None else 0
    if placeholders != tokens:
        given = "no image was given"
        if features is not None:
            given = f"the images give {tokens} visual tokens"
            given += f" ({features.shape[0]} crops of {features.shape[1]})" if features.ndim == 3 else ""
        raise ValueError(f"The prompt has {placeholders} placeholder tokens, but {given}.")


class FastVLMForConditionalGeneration(FastVLMPreTrainedModel, GenerationMixin):
    """FastVLM with the language modeling head: answers prompts of text and images."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: FastVLMConfig):
        super().__init__(config)
        self.model = FastVLMModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        embedding = self.model.language_model.get_input_embeddings()
        # Decoders name their embedding differently.
        names = {module: name for name, module in self.named_modules()}
        self._tied_weights_keys = {"lm_head.weight": f"{names[embedding]}.weight"}
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs) -> FastVLMImageFeatures:
        """Encode and project images; see [`FastVLMModel.get_image_features`]."""
        return self.model.get_image_features(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs,
    ) -> FastVLMCausalLMOutputWithPast:
        """
        As [`FastVLMModel.forward`], and

        Args:
            labels (`torch.LongTensor` of shape `(batch, positions)`, *optional*): token ids to predict, -100 where
                no loss is wanted. Not shifted: the loss shifts them.
            logits_to_keep (`int` or `torch.Tensor`, defaults to 0): compute scores for the last so many positions
                only, or for those listed; 0 means all.

        Raises:
            ValueError: if images and placeholders do not match, or, with `labels`, if there are placeholders without
                image or the text is longer than the decoder's context (so does `generate`).
        """
        if labels is not None:
            has_images = pixel_values is not None or mm_encoder_outputs is not None
            self._raise_on_bad_prompt(input_ids, inputs_embeds, has_images, past_key_values)
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            return_dict=True,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])  # (batch, kept positions, vocab)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs
            )
        return FastVLMCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=outputs.image_hidden_states,
        )

    def _raise_on_bad_prompt(self, input_ids, inputs_embeds, has_images: bool, past_key_values: Cache | None) -> None:
        """Refuse what would be answered wrongly in silence: placeholders without image, text past the context."""
        if not _is_start(past_key_values) or torch.compiler.is_compiling():
            return
        prompt = input_ids if inputs_embeds is None else inputs_embeds
        _raise_on_long_prompt(self.config.text_config, prompt.shape[1])
        if inputs_embeds is None and not has_images:
            _raise_on_mismatch(int(self.model.get_placeholder_mask(input_ids).sum()), None)

    def adjust_generation_fn(self, *args, **kwargs) -> None:
        # A checkpoint's generation file may name no stop token (the original) or the wrong one (upstream).
        super().adjust_generation_fn(*args, **kwargs)
        stops = self.config.text_config.eos_token_id
        if stops is not None:
            generation_config = self.generation_config
            generation_config.eos_token_id = stops
            if generation_config.pad_token_id is None:
                generation_config.pad_token_id = stops[-1] if isinstance(stops, list) else stops

    def prepare_inputs_for_generation(
        self, input_ids, inputs_embeds=None, is_first_iteration: bool = False, **kwargs
    ) -> dict[str, Any]:
        # The assistant in assisted decoding is never told about its first iteration; its cache tells.
        cache = kwargs.get("past_key_values")
        is_first_iteration = is_first_iteration or (cache is not None and _is_start(cache))
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
        mask = self.model.get_placeholder_mask(input_ids)
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
        if encoded is None and pixel_values is not None:
            encoded = self.get_image_features(pixel_values, return_dict=True)
        self._raise_on_bad_prompt(input_ids, embeds, encoded is not None, model_kwargs.get("past_key_values"))
        if encoded is not None:
            features = encoded.pooler_output
            if expand_size > 1:
                ids = input_ids if embeds is None else None
                mask = self.model.get_placeholder_mask(ids, embeds)
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

    def _prefill(self, input_ids, generation_config, model_kwargs, *args, **kwargs):
        """Prefill in chunks (`prefill_chunk_size`) cuts the prompt, visual tokens included, wherever a chunk ends."""
        encoded = (model_kwargs.get("mm_encoder_outputs") or {}).get("image")
        chunk_size = generation_config.prefill_chunk_size
        if chunk_size is None or encoded is None or not _is_start(model_kwargs.get("past_key_values")):
            return super()._prefill(input_ids, generation_config, model_kwargs, *args, **kwargs)
        embeds = model_kwargs.pop("inputs_embeds", None)
        if embeds is None:
            embeds = self.get_input_embeddings()(input_ids)
        ids = input_ids if input_ids.shape[1] == embeds.shape[1] else None
        embeds = self.model.insert_image_features(ids, embeds, encoded.pooler_output)
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
            outputs = self(**inputs, return_dict=True)
            rest["past_key_values"] = outputs.past_key_values
        model_kwargs.update({name: value for name, value in whole.items() if value is not None})
        model_kwargs["past_key_values"] = outputs.past_key_values
        return outputs


__all__ = [
    "FastVLMCausalLMOutputWithPast",
    "FastVLMForConditionalGeneration",
    "FastVLMImageFeatures",
    "FastVLMModel",
    "FastVLMModelOutputWithPast",
    "FastVLMPreTrainedModel",
]
