# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""FastVLM (arXiv 2412.13303): FastViTHD, a two-layer projector and a causal language model.

Every image, and every tile of one, is a square of R pixels that becomes (R / 64)² visual tokens, row by row. They take
the places of the placeholder tokens in the prompt, in order.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import distributed, nn
from transformers import AutoModel, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .checkpoint_formats import model_renamings
from .configuration_fastvlm import FastVLMConfig
from .decoder_head import DecoderHead
from .finite_checks import can_look, raise_on_non_finite_logits
from .generation_fastvlm import FastVLMGenerationMixin
from .loading import CheckpointLoadingMixin
from .modeling_fastvithd import CLIP_HEAD, FastViTHDModel
from .outputs_fastvlm import (
    CACHE_NAME,
    FastVLMCausalLMOutputWithPast,
    FastVLMImageFeatures,
    FastVLMModelOutputWithPast,
    cache_argument,
    is_start,
    one_cache,
)
from .prompt_checks import raise_on_bad_embeddings, raise_on_bad_ids, raise_on_bad_mask, raise_on_mismatch


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
    _skip_keys_device_placement = [CACHE_NAME]
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

    known_strangers = (CLIP_HEAD, r"^lm_head\.")

    def __init__(self, config: FastVLMConfig):
        super().__init__(config)
        self.vision_tower = FastViTHDModel(config.vision_config)
        # In here, a decoder's tensor is no stranger: loaders ask every part what may be left out of the whole.
        self.vision_tower._keys_to_ignore_on_load_unexpected = []
        if self.vision_tower.projection is not None:
            # The CLIP head rides along for the encoder's own users; no loss of the VLM reaches it.
            self.vision_tower.projection.requires_grad_(False)
        self.multi_modal_projector = FastVLMMultiModalProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        if torch.get_default_dtype() == torch.float16:  # serving engines read this one alone, whatever the dtype
            self._keep_in_fp32_modules_strict = self._keep_in_fp32_modules
        self.post_init()

    @can_return_tuple
    def get_image_features(
        self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> FastVLMImageFeatures:
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
        return FastVLMImageFeatures(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=self.project(encoded.last_hidden_state),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def project(self, feature_maps: torch.Tensor) -> torch.Tensor:
        """Visual tokens `(crops, tokens, hidden)` of the encoder's feature maps `(crops, channels, height, width)`."""
        features = feature_maps.flatten(2).transpose(1, 2)  # (crops, tokens, channels)
        return self.multi_modal_projector(features.to(self.dtype))

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
        if can_look(mask):
            raise_on_mismatch(mask, features)
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

    def _check_prompt(self, input_ids: Any, inputs_embeds: Any, attention_mask: Any, cache: Any) -> None:
        """Refuse what torch would fail on with a word of its own. Only looks where that waits for no accelerator."""
        prompt = input_ids if inputs_embeds is None else inputs_embeds
        if isinstance(prompt, torch.Tensor) and (prompt.device.type != "cpu" or not can_look(prompt)):
            return
        if inputs_embeds is None:
            raise_on_bad_ids(input_ids, self.config.text_config.vocab_size)
        else:
            raise_on_bad_embeddings(inputs_embeds, self.get_input_embeddings().embedding_dim)  # type: ignore[arg-type]
        raise_on_bad_mask(attention_mask, prompt.shape[:2], is_start(cache))

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Mapping[str, Any]] | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FastVLMModelOutputWithPast:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, positions)`, *optional*): token ids with one
                `config.image_token_id` per visual token.
            pixel_values (`torch.Tensor` of shape `(crops, 3, R, R)`, *optional*): all images of the batch, in the
                order of their placeholders.
            inputs_embeds (`torch.Tensor` of shape `(batch, positions, hidden)`, *optional*): instead of `input_ids`.
            mm_encoder_outputs (`dict`, *optional*): `{"image": ...}` with the output of `get_image_features`, instead
                of `pixel_values`, for images encoded ahead; its `last_hidden_state` alone is projected here.
            cache, past_key_values (`Cache`, *optional*): the new and the old name of the keys and values of earlier
                positions, both for any version of transformers; the output has the one of the version installed.
            attention_mask, position_ids, **kwargs: as the decoder takes them.

        Raises:
            ValueError: if there are images and they do not match the placeholders, or ids, embeddings, mask or pixels
                have a shape, dtype or values that they cannot have.
            FloatingPointError: if an image's features are not finite, while answering.
        """
        cache = one_cache(past_key_values, cache)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Give either `input_ids` or `inputs_embeds`.")
        encoded = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None and encoded is not None:
            raise ValueError("Give either `pixel_values` or `mm_encoder_outputs`, not both.")
        self._check_prompt(input_ids, inputs_embeds, attention_mask, cache)
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)

        if pixel_values is not None:
            encoded = self.get_image_features(pixel_values, return_dict=True)
        features: torch.Tensor | None = None
        if encoded is not None:
            features = encoded.get("pooler_output")
            if features is None:
                features = self.project(encoded["last_hidden_state"])
            prompt_length = encoded.get("prompt_length")
            inputs_embeds = self.insert_image_features(input_ids, inputs_embeds, features, prompt_length)
        elif self._others_wait_for_encoder() and is_start(cache):
            inputs_embeds = inputs_embeds + 0 * self._encode_blank_image().sum()

        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            return_dict=True,
            **cache_argument(cache),
            **kwargs,
        )
        names = ("last_hidden_state", CACHE_NAME, "hidden_states", "attentions", "router_logits")
        given = {name: outputs[name] for name in names if name in outputs}
        return FastVLMModelOutputWithPast(**given, image_hidden_states=features)


class FastVLMForConditionalGeneration(FastVLMPreTrainedModel, FastVLMGenerationMixin):
    """FastVLM with the language modeling head: answers prompts of text and images."""

    known_strangers = (CLIP_HEAD,)
    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: FastVLMConfig):
        super().__init__(config)
        self.model = FastVLMModel(config)
        self.decoder_head = DecoderHead(self, config.text_config)
        width, vocab_size = config.text_config.hidden_size, config.text_config.vocab_size
        self.lm_head = nn.Linear(width, vocab_size, bias=self.decoder_head.has_bias)
        embedding = self.model.language_model.get_input_embeddings()
        # Decoders name their embedding differently.
        names = {module: name for name, module in self.named_modules()}
        self._tied_weights_keys = {"lm_head.weight": f"{names[embedding]}.weight"}
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def get_image_features(
        self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> FastVLMImageFeatures:
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
        mm_encoder_outputs: dict[str, Mapping[str, Any]] | None = None,
        cache: Cache | None = None,
        **kwargs: Unpack[TransformersKwargs],
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
        cache = one_cache(past_key_values, cache)
        if labels is not None:
            has_images = pixel_values is not None or mm_encoder_outputs is not None
            self.raise_on_bad_prompt(input_ids, inputs_embeds, has_images, cache, position_ids)
        # Asked before the decoder fills the cache, and in an order that costs no step of decoding anything.
        prompt = input_ids if inputs_embeds is None else inputs_embeds
        is_prefill = (
            isinstance(prompt, torch.Tensor)
            and prompt.ndim > 1
            and prompt.shape[1] > 1
            and can_look(prompt)
            and is_start(cache)
        )
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            cache=cache,
            return_dict=True,
            **kwargs,
        )
        if not isinstance(logits_to_keep, (int, torch.Tensor)):
            raise ValueError(f"`logits_to_keep` must be a number of positions or a tensor, not {logits_to_keep!r}.")
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        outputs.last_hidden_state = outputs.last_hidden_state[:, kept]  # (batch, kept positions, hidden)
        head = self.decoder_head(outputs, labels=labels, attention_mask=attention_mask, **kwargs)
        if is_prefill and not torch.is_grad_enabled():
            raise_on_non_finite_logits(head.logits, self)
        return FastVLMCausalLMOutputWithPast(
            loss=head.get("loss"),
            logits=head.logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            aux_loss=head.get("aux_loss"),
            image_hidden_states=outputs.image_hidden_states,
            **cache_argument(outputs.get(CACHE_NAME)),
        )


__all__ = [
    "FastVLMCausalLMOutputWithPast",
    "FastVLMForConditionalGeneration",
    "FastVLMImageFeatures",
    "FastVLMModel",
    "FastVLMModelOutputWithPast",
    "FastVLMPreTrainedModel",
]
