# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""Prompt and images to model inputs, with the original's prompt as chat template."""

import bisect
import copy
import re
from functools import partial
from typing import Any

from transformers import PretrainedConfig
from transformers.image_processing_base import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import ImageInput
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin, Unpack
from transformers.tokenization_utils_base import AddedToken, TextInput
from transformers.utils import CHAT_TEMPLATE_FILE, PROCESSOR_NAME, is_torchvision_available
from transformers.utils.chat_template_utils import render_jinja_template

from .chat_templates import CHAT_TEMPLATE
from .checkpoint_files import HUB_ARGUMENTS, hub_arguments, hub_file
from .checkpoint_formats import IMAGE_TOKEN, end_at_turns, foreign_processor_settings, to_own_config
from .configuration_fastvlm import FastViTHDConfig
from .control_tokens import MarkedTextTokenizer, marked
from .image_processing_common_fastvlm import refuse_misspelt, square_side
from .image_processing_pil_fastvlm import FastVLMImageProcessorPil
from .image_values import flatten_images
from .processor_options import (
    IMAGE_OPTIONS,
    PROCESSING_OPTIONS,
    TEXT_OPTIONS,
    check_call_options,
    check_conversation,
    check_processor_options,
    check_settings,
    check_text,
)
from .template_bounds import check_template
from .tokenizer_loading import TokenizerTakingTurns, load_tokenizer, refuse_damaged

# What `from_pretrained` and `apply_chat_template` take besides options.
_LOADING_OPTIONS = ("backend", "use_fast", "trust_remote_code", "code_revision", "return_unused_kwargs")
_TEMPLATE_OPTIONS = {"tools", "documents", "add_generation_prompt", "continue_final_message"} | {
    "load_audio_from_video",
    "sanitize_control_tokens",
}
# The processor's own options, with their defaults.
_OWN_OPTIONS = {"patch_size": 64, "image_token": IMAGE_TOKEN, "padding_side": "left", "chat_template": None}


class FastVLMProcessor(ProcessorMixin):
    """
    FastVLM's image processor and tokenizer in one: an `<image>` in a prompt becomes a placeholder per visual token.

    Args:
        image_processor ([`FastVLMImageProcessor`] or [`FastVLMImageProcessorPil`]): turns images into crops.
        tokenizer (`PreTrainedTokenizerBase`): the decoder's tokenizer. If it has no `image_token`, that is added to it
            as a special token and gets the first free id.
        patch_size (`int`, defaults to 64): the encoder's stride; a crop of R×R pixels has `(R / patch_size)²` tokens.
        image_token (`str`, defaults to `"<image>"`): the placeholder.
        chat_template (`str`, *optional*): Jinja template, by default the original's prompt.
        padding_side (`str`, defaults to `"left"`): the side that prompts of different lengths are padded on, `"left"`
            for generation. It becomes the tokenizer's, whatever that had, and is stored with both.

    Raises:
        ValueError: if the image processor's resolution is not divisible by `patch_size`, or an option has a value that
            it cannot have.
    """

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        patch_size: int = 64,
        image_token: str = IMAGE_TOKEN,
        chat_template: str | dict[str, str] | None = None,
        padding_side: str = "left",
    ):
        check_processor_options(patch_size, image_token, padding_side, chat_template)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)
        if not hasattr(image_processor, "get_number_of_image_patches"):
            raise TypeError(
                "FastVLM needs FastVLMImageProcessor or FastVLMImageProcessorPil, not "
                f"{type(image_processor).__name__}, which prepares images in another way."
            )
        self.patch_size = patch_size
        self.image_token = getattr(tokenizer, "image_token", None) or image_token
        if self.image_token not in tokenizer.get_added_vocab():
            token = AddedToken(self.image_token, normalized=False, special=True)
            tokenizer.add_tokens([token], special_tokens=True)
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        if self.chat_template is None:
            self.chat_template = CHAT_TEMPLATE.replace(IMAGE_TOKEN, self.image_token)
        tokenizer.padding_side = padding_side
        tokenizer.init_kwargs["padding_side"] = padding_side  # which the tokenizer's file is written from
        self._tokens_per_crop()

    def to_dict(self) -> dict[str, Any]:
        """The processor's options, as `processor_config.json` has them."""
        return super().to_dict() | {"padding_side": self.tokenizer.padding_side}

    @property
    def unused_input_names(self) -> list[str]:
        return ["num_crops"]

    def __call__(
        self,
        images: ImageInput | None = None,
        text: TextInput | list[TextInput] | None = None,
        **kwargs: Unpack[ProcessingKwargs],
    ) -> BatchFeature:
        """
        Turn prompts and their images into the model's input.

        Args:
            images: as for the image processor: one image, a flat list for all prompts in their order, or one list of
                images per prompt, which may be empty.
            text (`str` or `list[str]`, *optional*): prompts, with an `<image>` for every image.
            **kwargs: options of the tokenizer and the image processor, flat or as `text_kwargs` and `images_kwargs`;
                `size=512` selects the resolution for this call, `padding=True` pads a batch on the tokenizer's
                `padding_side`. Threads may call one processor with different options.

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask` of shape `(batch, tokens)`, int64; with images also
            `pixel_values`, float32 of shape `(crops of all images, 3, R, R)`.

        Raises:
            TypeError: if there is no such option.
            ValueError: if a prompt has not as many `<image>` as images or cannot be encoded, the batch is empty, the
                image size is not divisible by the encoder's stride, an option has a value that it cannot have, or
                truncation would cut through an image.
            OSError: if an image file cannot be read; the message names it.
        """
        check_call_options(self.tokenizer, kwargs)
        caller = copy.copy(self)
        is_marked = kwargs.pop("sanitize_control_tokens", False)  # type: ignore[typeddict-item]
        caller.tokenizer = (MarkedTextTokenizer if is_marked else TokenizerTakingTurns)(self.tokenizer)
        return super(FastVLMProcessor, caller).__call__(images=images, text=text, **kwargs)

    def prepare_inputs_layout(self, images=None, text=None, videos=None, audio=None, **kwargs):
        if videos is not None or audio is not None:
            raise ValueError("FastVLM takes text and images, neither videos nor audio.")
        check_text(text)
        images, text, videos, audio = super().prepare_inputs_layout(images=images, text=text, **kwargs)
        if isinstance(images, (list, tuple)) and not flatten_images(images):
            images = None
        return images, text, videos, audio

    def validate_inputs(self, images=None, text=None, videos=None, audio=None, **kwargs) -> None:
        """
        Check that each prompt has as many `<image>` as images.

        Raises:
            ValueError: if it has not, naming the row of the batch; if there is nothing to process, or no text.
        """
        if images is None and text is None:
            raise ValueError("There is nothing to process: give `text`, `images` or both.")
        if text is None:
            return
        check_text(text)
        if not text:
            raise ValueError("The batch is empty: `text` is an empty list.")
        placeholders = [prompt.count(self.image_token) for prompt in text]
        rule = f"The number of {self.image_token} tokens in the prompts should be the same as the number of images."
        is_nested = isinstance(images, (list, tuple)) and all(isinstance(row, (list, tuple)) for row in images)
        if not is_nested:
            images = [] if images is None else flatten_images(images)
            if len(images) != sum(placeholders):
                where = "the prompt" if len(text) == 1 else f"{len(text)} prompts, by row {placeholders}"
                raise ValueError(f"{_count(images)} but {sum(placeholders)} `{self.image_token}` in {where}. {rule}")
            return
        if len(images) != len(text):
            raise ValueError(
                f"{len(images)} lists of images for {len(text)} prompts: give one list per prompt. {rule}"
            )
        for row, (row_images, wanted) in enumerate(zip(images, placeholders, strict=True)):
            if len(flatten_images(row_images)) != wanted:
                where = "the prompt" if len(text) == 1 else f"the prompt in row {row} of the batch"
                raise ValueError(f"{_count(row_images)} but {wanted} `{self.image_token}` in {where}. {rule}")

    def _process_images(self, images, **kwargs):
        self._tokens_per_crop(kwargs)
        processed = self.image_processor(images, **kwargs)
        count = len(flatten_images(images))
        return processed, [self.replace_image_token(processed, index, **kwargs) for index in range(count)]

    def replace_image_token(self, image_inputs: dict, image_idx: int, **kwargs) -> str:
        """The placeholders that stand for an image: as many as its crops have visual tokens."""
        crops = image_inputs["num_crops"][image_idx] if "num_crops" in image_inputs else 1
        return self.image_token * (int(crops) * self._tokens_per_crop(kwargs))

    def _tokens_per_crop(self, images_kwargs: dict | None = None) -> int:
        resolution = self.image_processor.get_resolution(images_kwargs)
        if resolution % self.patch_size:
            below = resolution // self.patch_size * self.patch_size
            nearest = f"{below} or {below + self.patch_size}" if below else str(self.patch_size)
            raise ValueError(
                f"The image size {resolution} is not divisible by {self.patch_size}, the encoder's stride; the "
                f"nearest possible is {nearest}."
            )
        return (resolution // self.patch_size) ** 2

    def _get_num_multimodal_tokens(self, image_sizes: list[tuple[int, int]] | None = None, **kwargs) -> MultiModalData:
        """
        How many placeholders and crops images of given sizes become; serving engines plan with it.

        Args:
            image_sizes (list of `(height, width)`, *optional*): sizes in pixels.
            **kwargs: options of the call, as for the processor itself.
        """
        if image_sizes is None:
            return MultiModalData()
        check_call_options(self.tokenizer, kwargs)
        images_kwargs = self._merge_kwargs(self.valid_processor_kwargs, **kwargs)["images_kwargs"]  # type: ignore[arg-type]
        crops = [
            self.image_processor.get_number_of_image_patches(height, width, images_kwargs)
            for height, width in image_sizes
        ]
        per_crop = self._tokens_per_crop(images_kwargs)
        return MultiModalData(num_image_tokens=[per_crop * count for count in crops], num_image_patches=crops)

    def apply_chat_template(
        self,
        conversation,
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        return_dict: bool = False,
        return_assistant_tokens_mask: bool = False,
        return_tensors: str | None = None,
        processor_kwargs: dict | None = None,
        sanitize_control_tokens: bool = False,
        **kwargs,
    ):
        """
        Conversations to prompts, or with `tokenize=True` and `return_dict=True` to model inputs. As in
        [`ProcessorMixin.apply_chat_template`]; `return_assistant_tokens_mask` marks the assistant's turns, with their
        `<|im_end|>`, also in prompts with images. Keyword arguments besides are the template's variables, which it may
        leave alone, or options of the call. With `sanitize_control_tokens=True`, `<image>`, `<|im_end|>` and the like
        in the conversation are text, as the tokenizer encodes any other.

        Raises:
            TypeError: if a keyword argument is nearly the name of an option, or `processor_kwargs` has an unknown one.
            ValueError: if `conversation` is no conversation and no batch of them; if `sanitize_control_tokens` goes
                without `tokenize`, or with `return_assistant_tokens_mask`.
        """
        is_batch = check_conversation(conversation)
        refuse_misspelt(kwargs, PROCESSING_OPTIONS | _TEMPLATE_OPTIONS)
        check_call_options(self.tokenizer, {n: v for n, v in (processor_kwargs or {}).items() if n != "images"})
        template = self._template(chat_template)
        if template != CHAT_TEMPLATE:
            conversations = conversation if is_batch else [conversation]
            if hasattr(self, "_normalize_conversations"):
                conversations, _ = self._normalize_conversations(conversation)
            check_template(template, conversations, **{**self.tokenizer.special_tokens_map, **kwargs})
        if sanitize_control_tokens:
            if not tokenize or return_assistant_tokens_mask:
                raise ValueError(
                    "`sanitize_control_tokens` needs `tokenize=True`, and no `return_assistant_tokens_mask`."
                )
            conversation, kwargs = marked(conversation, self.tokenizer), marked(kwargs, self.tokenizer)
            processor_kwargs = {**(processor_kwargs or {}), "sanitize_control_tokens": True}
        # transformers would take a variable that the template leaves alone for an option.
        kwargs = {
            name: value
            for name, value in kwargs.items()
            if name in PROCESSING_OPTIONS | _TEMPLATE_OPTIONS or re.search(rf"\b{re.escape(name)}\b", template)
        }
        options: dict[str, Any] = {"tokenize": tokenize, "return_dict": return_dict}
        # Before it had this method, transformers took the turns' positions from the prompt without its placeholders.
        if not (return_assistant_tokens_mask and tokenize and return_dict) or hasattr(
            ProcessorMixin, "_adjust_assistant_masks_indices"
        ):
            if return_tensors is not None:
                options["return_tensors"] = return_tensors
            return super().apply_chat_template(
                conversation,
                chat_template,
                return_assistant_tokens_mask=return_assistant_tokens_mask,
                processor_kwargs=processor_kwargs,
                **options,
                **kwargs,
            )
        template_kwargs = {name: value for name, value in kwargs.items() if name not in PROCESSING_OPTIONS}
        processor_kwargs = {
            **(processor_kwargs or {}),
            **{k: v for k, v in kwargs.items() if k not in template_kwargs},
        }
        return_tensors = processor_kwargs.pop("return_tensors", return_tensors)
        processor_kwargs |= {"return_offsets_mapping": True, "return_text_replacement_offsets": True}
        inputs: Any = super().apply_chat_template(
            conversation, chat_template, processor_kwargs=processor_kwargs, **options, **template_kwargs
        )
        spans = self._assistant_spans(conversation if is_batch else [conversation], template, **template_kwargs)
        inputs["assistant_masks"] = [
            _mask_of_spans(*row)
            for row in zip(inputs.pop("offset_mapping"), inputs.pop("text_replacement_offsets"), spans, strict=True)
        ]
        return inputs.convert_to_tensors(tensor_type=return_tensors)

    def _template(self, chat_template: str | None) -> str:
        """The template's text: the processor's, one of the processor's by its name, or one given as it is."""
        templates = self.chat_template if isinstance(self.chat_template, dict) else {"default": self.chat_template}
        if chat_template is None and "default" not in templates:
            raise ValueError(f"Choose one of the chat templates {', '.join(templates)} by `chat_template`.")
        return templates.get(chat_template or "default", chat_template)  # type: ignore[return-value]

    def _assistant_spans(self, conversations, template: str, **kwargs) -> list[list[tuple[int, int]]]:
        """(start, end) characters of each conversation's assistant turns, before images become placeholders."""
        _, spans = render_jinja_template(  # type: ignore[misc, str-unpack]
            conversations=conversations,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **{**self.tokenizer.special_tokens_map, **kwargs},
        )
        return spans  # type: ignore[return-value]

    @classmethod
    def get_processor_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict[str, Any], dict[str, Any]]:
        where = hub_arguments(kwargs)
        refuse_misspelt(kwargs, {*IMAGE_OPTIONS, *TEXT_OPTIONS, *_OWN_OPTIONS, *HUB_ARGUMENTS, *_LOADING_OPTIONS})
        try:
            processor_dict, kwargs = super().get_processor_dict(pretrained_model_name_or_path, **kwargs)
        except Exception as error:
            _refuse_damaged_settings(pretrained_model_name_or_path, where)
            raise error
        if processor_dict.get("processor_class") in (cls.__name__, FastVLMProcessor.__name__):
            file = f"{PROCESSOR_NAME} of {pretrained_model_name_or_path}"
            check_settings(processor_dict, _OWN_OPTIONS, file)
        else:
            # An original or upstream checkpoint, or a model saved without its processor.
            processor_dict = _settings_from_config(pretrained_model_name_or_path, where)
        return processor_dict, kwargs

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs) -> list:
        processor_dict = processor_dict or {}
        images_kwargs = {name: kwargs.pop(name) for name in IMAGE_OPTIONS if name in kwargs}
        image_processor_class = image_processor_class_of(kwargs.pop("backend", None), kwargs.get("use_fast"))
        where = hub_arguments(kwargs)
        if "image_processor" in processor_dict:
            image_processor = image_processor_class.from_dict(processor_dict["image_processor"], **images_kwargs)
        else:
            image_processor = image_processor_class.from_pretrained(
                pretrained_model_name_or_path, **where, **images_kwargs
            )
        settings = processor_dict.get("tokenizer", {})
        own = {name for name in _OWN_OPTIONS if name != "chat_template"}
        tokenizer_kwargs = {name: value for name, value in {**settings, **kwargs}.items() if name not in own}
        load = partial(cls._load_tokenizer_from_pretrained, "tokenizer", pretrained_model_name_or_path)
        tokenizer = load_tokenizer(partial(load, **tokenizer_kwargs), pretrained_model_name_or_path, where)
        if "tokenizer" in processor_dict:
            end_at_turns(tokenizer)
        return [image_processor, tokenizer]


def _refuse_damaged_settings(source, where: dict[str, Any]) -> None:
    """Raise an `OSError` that names the first of the processor's own files that cannot be read."""
    refuse_damaged(source, (PROCESSOR_NAME, "chat_template.json"), where)
    path = hub_file(source, CHAT_TEMPLATE_FILE, where)
    if path is not None:
        try:
            with open(path, encoding="utf-8") as file:
                file.read()
        except ValueError as error:
            raise OSError(f"{path} is damaged: it is no text ({error}).") from error


def _count(images: Any) -> str:
    count = len(flatten_images(images))
    return "1 image" if count == 1 else f"{count or 'no'} images"


def _mask_of_spans(
    token_offsets: list[tuple[int, int]], replacements: list[dict[str, Any]], spans: list[tuple[int, int]]
) -> list[int]:
    """1 for the tokens of a prompt that lie in `spans`, which count characters before images became placeholders."""
    ends = [replacement["span"][1] for replacement in replacements]
    gained = [0] + [replacement["new_span"][1] - replacement["span"][1] for replacement in replacements]
    moved = [[char + gained[bisect.bisect_right(ends, char)] for char in span] for span in spans]
    return [
        int(any(token_start < end and token_end > start for start, end in moved))
        for token_start, token_end in token_offsets
    ]


def image_processor_class_of(backend: str | None = None, use_fast: bool | None = None) -> type[BaseImageProcessor]:
    """The class for a backend, by default torchvision's where that is installed.

    Raises:
        ValueError: if `backend` is neither `"torchvision"` nor `"pil"`.
    """
    if backend not in (None, "pil", "torchvision"):
        raise ValueError(f"`backend` must be 'torchvision' or 'pil', got {backend!r}.")
    wants_pil = backend == "pil" or (backend is None and (use_fast is False or not is_torchvision_available()))
    if wants_pil:
        return FastVLMImageProcessorPil
    from .image_processing_fastvlm import FastVLMImageProcessor

    return FastVLMImageProcessor


def _settings_from_config(source, where: dict[str, Any]) -> dict[str, Any]:
    """What `processor_config.json` would say for a checkpoint that has none of ours, from its `config.json`.

    Raises:
        ValueError: if it is no FastVLM, or its encoder, projector or way of preparing images is not FastVLM's.
    """
    config, _ = PretrainedConfig.get_config_dict(source, **where)
    own = to_own_config(config)
    if own.get("model_type") != "fastvlm":
        raise ValueError(f"{source} is no FastVLM checkpoint: its `model_type` is {config.get('model_type')!r}.")
    vision_config = FastViTHDConfig(**(own.get("vision_config") or {}))
    image_options: dict[str, Any] = {"size": vision_config.image_size}
    settings: dict[str, Any] = {"patch_size": vision_config.stride, "image_processor": image_options}
    if own is not config:
        foreign = foreign_processor_settings(config, source, where)
        image_options |= foreign["image_processor"]
        image_options["size"] = square_side(image_options["size"])
        settings["tokenizer"] = foreign["tokenizer"]
    return settings


__all__ = ["CHAT_TEMPLATE", "FastVLMProcessor"]
