# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The processor: the original's prompt token for token, batches with and without images, foreign folders."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import CLIPImageProcessor

from conftest import GOLDEN
from helpers_tokenizer import qwen2_tokenizer, write_original_folder
from transformers_fastvlm.image_processing_pil_fastvlm import FastVLMImageProcessorPil
from transformers_fastvlm.processing_fastvlm import CHAT_TEMPLATE, FastVLMProcessor

CONFIG = json.loads((GOLDEN / "original" / "config.json").read_text())
QUESTION = "What does it say?"


@pytest.fixture
def processor() -> FastVLMProcessor:
    """At 128 pixels, an image has 4 tokens."""
    return FastVLMProcessor(FastVLMImageProcessorPil(size=128), qwen2_tokenizer())


@pytest.fixture
def original_folder(tmp_path) -> Path:
    return write_original_folder(tmp_path / "original", CONFIG)


def picture(height: int = 30, width: int = 40, seed: int = 0) -> PIL.Image.Image:
    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def user(*parts: str | PIL.Image.Image) -> dict:
    """A user's turn of texts and images."""
    content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "image", "image": p} for p in parts]
    return {"role": "user", "content": content}


def original_ids(tokenizer, prompt: str, image_id: int, tokens_per_image: int) -> list[int]:
    """As the original code does: split the prompt at `<image>`, tokenize the parts, put the image's tokens between."""
    ids: list[int] = []
    for index, part in enumerate(prompt.split("<image>")):
        ids += ([image_id] * tokens_per_image if index else []) + tokenizer(part, add_special_tokens=False).input_ids
    return ids


def test_the_originals_prompt_token_for_token(processor):
    prompt = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<image>\n"
        f"{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [user(picture(), QUESTION)]
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == prompt
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    expected = original_ids(qwen2_tokenizer(), prompt, processor.image_token_id, 4)
    assert inputs.input_ids.tolist() == [expected]
    assert inputs.attention_mask.tolist() == [[1] * len(expected)]
    assert inputs.pixel_values.shape == (1, 3, 128, 128) and inputs.pixel_values.dtype == torch.float32
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values"} == set(processor.model_input_names)


END = "<|im_end|>\n"
DEFAULT = f"<|im_start|>system\nYou are a helpful assistant.{END}"
BRIEF = f"<|im_start|>system\nBe brief.{END}"
USER, ASSISTANT = "<|im_start|>user\n", "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user(QUESTION)], f"{DEFAULT}{USER}{QUESTION}{END}"),
        ([{"role": "user", "content": QUESTION}], f"{DEFAULT}{USER}{QUESTION}{END}"),
        ([user(picture(), picture(), "a")], f"{DEFAULT}{USER}<image>\n<image>\na{END}"),
        ([user("a", picture(), "b", " c")], f"{DEFAULT}{USER}a\n<image>\nb c{END}"),
        ([user("a\n", picture())], f"{DEFAULT}{USER}a\n<image>\n{END}"),
        ([user(picture())], f"{DEFAULT}{USER}<image>\n{END}"),
        ([{"role": "system", "content": "Be brief."}, user("a")], f"{BRIEF}{USER}a{END}"),
        ([{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, user("a")], f"{BRIEF}{USER}a{END}"),
        ([{"role": "system", "content": ""}, user("a")], f"{USER}a{END}"),
        (
            [user(picture(), "a"), {"role": "assistant", "content": "b"}, user("c")],
            f"{DEFAULT}{USER}<image>\na{END}{ASSISTANT}b{END}{USER}c{END}",
        ),
        (
            [user("a"), {"role": "assistant", "content": [{"type": "text", "text": "b"}]}],
            f"{DEFAULT}{USER}a{END}{ASSISTANT}b{END}",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            f"{DEFAULT}{USER}<image>\n{END}",
        ),
    ],
)
def test_chat_template(processor, messages, expected):
    assert processor.apply_chat_template(messages) == expected


def test_chat_template_refuses_what_the_model_does_not_know(processor):
    with pytest.raises(Exception, match="not video"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "video", "video": "x"}]}])
    with pytest.raises(Exception, match="roles system, user and assistant, not 'tool'"):
        processor.apply_chat_template([{"role": "tool", "content": "x"}])
    with pytest.raises(Exception, match="no tools"):
        processor.apply_chat_template([user("x")], tools=[{"type": "function", "function": {"name": "f"}}])


def test_continue_final_message(processor):
    messages = [user(picture(), QUESTION), {"role": "assistant", "content": "It says"}]
    assert processor.apply_chat_template(messages, continue_final_message=True).endswith("assistant\nIt says")


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_assistant_mask_covers_the_assistants_turns(processor, padding_side):
    processor.tokenizer.padding_side = padding_side
    long = [user(picture(), "One?"), {"role": "assistant", "content": "First answer"}]
    long += [user("Two?", picture()), {"role": "assistant", "content": "Second"}]
    short = [user("No image"), {"role": "assistant", "content": "Third"}]
    inputs = processor.apply_chat_template(
        [long, short],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
    assert inputs["assistant_masks"].shape == inputs.input_ids.shape
    masked = [ids[mask.bool()] for ids, mask in zip(inputs.input_ids, inputs["assistant_masks"], strict=True)]
    assert processor.batch_decode(masked) == ["First answer<|im_end|>Second<|im_end|>", "Third<|im_end|>"]
    assert "offset_mapping" not in inputs and "text_replacement_offsets" not in inputs


def test_assistant_mask_without_tensors(processor):
    messages = [user(picture(), "One?"), {"role": "assistant", "content": "First answer"}]
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ids = [token for token, kept in zip(inputs["input_ids"][0], inputs["assistant_masks"][0], strict=True) if kept]
    assert processor.decode(ids) == "First answer<|im_end|>"


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_batch_equals_one_by_one(processor, padding_side):
    images = [picture(seed=seed) for seed in range(3)]
    prompts = ["<image>\nOne?", "No image at all, but a longer text", "<image>\n<image>\nTwo of them"]
    nested = [images[:1], [], images[1:]]
    options = {"padding": True, "return_tensors": "pt", "padding_side": padding_side}
    batch = processor(images=nested, text=prompts, **options)
    assert all(
        torch.equal(value, processor(images=images, text=prompts, **options)[key]) for key, value in batch.items()
    )
    pixel_values = []
    for row, (prompt, row_images) in enumerate(zip(prompts, nested, strict=True)):
        single = processor(images=row_images, text=prompt, return_tensors="pt")
        assert batch.input_ids[row][batch.attention_mask[row].bool()].tolist() == single.input_ids[0].tolist()
        assert int((single.input_ids == processor.image_token_id).sum()) == 4 * len(row_images)
        pixel_values += [single.pixel_values] if row_images else []
    assert torch.equal(batch.pixel_values, torch.cat(pixel_values))
    is_padding = batch.attention_mask[0] == 0
    assert is_padding.any() and bool(is_padding[0 if padding_side == "left" else -1])


@pytest.mark.parametrize("of_tokenizer", ["right", "left"])
def test_prompts_are_padded_on_the_left(original_folder, tmp_path, of_tokenizer):
    """Whatever the tokenizer's files say: made, loaded with and without its own file, and saved."""
    tokenizer = qwen2_tokenizer(padding_side=of_tokenizer, pad_token="<|endoftext|>")
    processor = FastVLMProcessor(FastVLMImageProcessorPil(size=128), tokenizer)
    processor.save_pretrained(tmp_path / "own")
    for name in ("processor_config.json", "tokenizer_config.json"):
        stored = json.loads((tmp_path / "own" / name).read_text())
        assert stored["padding_side"] == "left"
        # As checkpoints were stored before.
        (tmp_path / "own" / name).write_text(json.dumps(stored | {"padding_side": of_tokenizer}))
    stored = json.loads((tmp_path / "own" / "processor_config.json").read_text())
    del stored["padding_side"]
    (tmp_path / "own" / "processor_config.json").write_text(json.dumps(stored))
    processors = [processor, FastVLMProcessor.from_pretrained(tmp_path / "own")]
    (tmp_path / "own" / "processor_config.json").unlink()
    (tmp_path / "own" / "config.json").write_text(json.dumps({"model_type": "fastvlm"}))
    processors.append(FastVLMProcessor.from_pretrained(tmp_path / "own"))
    processors.append(FastVLMProcessor.from_pretrained(original_folder))
    for each in processors:
        assert each(text=["a", "and more"], padding=True)["attention_mask"][0][0] == 0


def test_a_padding_side_that_is_asked_for_wins(tmp_path):
    made = FastVLMProcessor(FastVLMImageProcessorPil(size=64), qwen2_tokenizer(), padding_side="right")
    made.save_pretrained(tmp_path)
    for processor in (
        made,
        FastVLMProcessor.from_pretrained(tmp_path),
        FastVLMProcessor.from_pretrained(tmp_path, padding_side="right"),
    ):
        assert processor.tokenizer.padding_side == "right"
        assert processor(text=["a", "and more"], padding=True)["attention_mask"][0][-1] == 0
        assert processor(text=["a", "and more"], padding=True, padding_side="left")["attention_mask"][0][0] == 0
    assert FastVLMProcessor.from_pretrained(tmp_path, padding_side="left").tokenizer.padding_side == "left"
    made.tokenizer.padding_side = "left"
    made.save_pretrained(tmp_path)
    assert FastVLMProcessor.from_pretrained(tmp_path).tokenizer.padding_side == "left"


def test_text_only(processor):
    for images in (None, [], [[]]):
        assert set(processor(text=["Hello"], images=images)) == {"input_ids", "attention_mask"}
    assert set(processor(text=["a", "b"], images=[[], []])) == {"input_ids", "attention_mask"}


def test_images_only(processor):
    assert processor(images=[picture()], return_tensors="pt").pixel_values.shape == (1, 3, 128, 128)


@pytest.mark.parametrize(
    ("images", "text", "message"),
    [
        ([picture()] * 2, "<image> a", "2 images but 1 `<image>` in the prompt"),
        ([picture()], "<image> <image>", "1 image but 2 `<image>` in the prompt"),
        (picture(), "no placeholder", "1 image but 0 `<image>` in the prompt"),
        (None, "<image> a", "no images but 1 `<image>` in the prompt"),
        ([[picture()], [picture()]], ["<image><image>", "b"], "1 image but 2 `<image>` in the prompt in row 0"),
        ([[picture()], []], ["<image>", "<image>"], "no images but 1 `<image>` in the prompt in row 1"),
        ([picture()] * 3, ["<image>", "<image>"], r"3 images but 2 `<image>` in 2 prompts, by row \[1, 1\]"),
        ([[picture()]], ["<image>", "b"], "1 lists of images for 2 prompts"),
        (None, [], "batch is empty"),
        (None, None, "nothing to process"),
        (None, [1], "must be a string or a list of strings"),
        ([None], "<image>", "NoneType is no image"),
    ],
)
def test_images_that_do_not_match_the_prompts(processor, images, text, message):
    with pytest.raises(ValueError, match=message):
        processor(images=images, text=text)


def test_videos_and_audio_are_refused(processor):
    with pytest.raises(ValueError, match="neither videos nor audio"):
        processor(text="a", videos=[np.zeros((2, 3, 8, 8), np.uint8)])


def test_truncation_never_cuts_through_an_image(processor):
    with pytest.raises(ValueError, match="truncation"):
        processor(images=picture(), text="<image> a", truncation=True, max_length=3)


def test_image_files(processor, tmp_path):
    image = picture()
    image.save(tmp_path / "picture.png")
    expected = processor(images=image, text="<image>", return_tensors="pt").pixel_values
    for source in (tmp_path / "picture.png", str(tmp_path / "picture.png")):
        assert torch.equal(processor(images=source, text="<image>", return_tensors="pt").pixel_values, expected)
    messages = [{"role": "user", "content": [{"type": "image", "path": str(tmp_path / "picture.png")}]}]
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    assert torch.equal(inputs.pixel_values, expected)


def test_size_selects_the_number_of_tokens(processor):
    for size, tokens in [(64, 1), (256, 16), (512, 64)]:
        inputs = processor(images=picture(), text="<image>", size=size, return_tensors="pt")
        assert inputs.input_ids.tolist() == [[processor.image_token_id] * tokens]
        assert inputs.pixel_values.shape == (1, 3, size, size)


def test_size_must_be_divisible_by_the_stride(processor):
    with pytest.raises(ValueError, match="size 500 is not divisible by 64.*448 or 512"):
        processor(images=picture(), text="<image>", size=500)
    with pytest.raises(ValueError, match="size 32 is not divisible by 64.*possible is 64"):
        FastVLMProcessor(FastVLMImageProcessorPil(size=32), qwen2_tokenizer())
    assert FastVLMProcessor(FastVLMImageProcessorPil(size=32), qwen2_tokenizer(), patch_size=32)


def test_tiles_have_the_tokens_of_their_crops(processor):
    options = {"do_tile": True, "image_grid_pinpoints": [[256, 256], [256, 128]], "return_tensors": "pt"}
    images = [picture(200, 200), picture(40, 300)]
    inputs = processor(images=images, text="<image> and <image>", **options)
    assert "num_crops" not in inputs
    assert inputs.pixel_values.shape == (5 + 3, 3, 128, 128)
    is_image = (inputs.input_ids[0] == processor.image_token_id).tolist()
    assert is_image == [True] * 20 + [False] * (len(is_image) - 32) + [True] * 12
    counts = processor._get_num_multimodal_tokens(image_sizes=[(200, 200), (40, 300)], **options)
    assert counts["num_image_tokens"] == [20, 12] and counts["num_image_patches"] == [5, 3]


def test_number_of_tokens_is_known_from_the_size(processor):
    counts = processor._get_num_multimodal_tokens(image_sizes=[(1, 1), (999, 20)])
    assert counts["num_image_tokens"] == [4, 4] and counts["num_image_patches"] == [1, 1]
    assert processor._get_num_multimodal_tokens([(9, 9)], size=256)["num_image_tokens"] == [16]


def test_two_grid_of_1024_pixels_has_1280_tokens():
    processor = FastVLMProcessor(FastVLMImageProcessorPil(do_tile=True), qwen2_tokenizer())
    assert processor._get_num_multimodal_tokens([(2048, 2048)])["num_image_tokens"] == [1280]


def test_a_missing_image_token_is_added():
    tokenizer = qwen2_tokenizer(151643)
    processor = FastVLMProcessor(FastVLMImageProcessorPil(size=64), tokenizer)
    assert processor.image_token_id == 151646 == tokenizer.convert_tokens_to_ids("<image>")
    assert tokenizer.decode([151646], skip_special_tokens=True) == ""


def test_an_image_token_that_is_there_stays():
    tokenizer = qwen2_tokenizer(image_token=True)
    before = len(tokenizer)
    processor = FastVLMProcessor(FastVLMImageProcessorPil(size=64), tokenizer)
    assert len(tokenizer) == before and processor.image_token_id == before - 1


def test_another_image_token():
    processor = FastVLMProcessor(FastVLMImageProcessorPil(size=64), qwen2_tokenizer(), image_token="<pic>")
    inputs = processor.apply_chat_template([user(picture(), "a")], tokenize=True, return_dict=True)
    assert inputs["input_ids"][0].count(processor.image_token_id) == 1
    assert processor.decode([processor.image_token_id]) == "<pic>"


def test_decoding(processor):
    ids = processor.tokenizer(["First<|im_end|>", "Second<|im_end|>"], padding=True, return_tensors="pt").input_ids
    assert processor.post_process_image_text_to_text(ids) == ["First", "Second"]
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["First", "Second"]


def test_an_image_processor_that_does_not_pad_is_refused():
    with pytest.raises(TypeError, match="FastVLM needs"):
        FastVLMProcessor(CLIPImageProcessor(), qwen2_tokenizer())


def test_saved_and_loaded(tmp_path):
    processor = FastVLMProcessor(FastVLMImageProcessorPil(size=128), qwen2_tokenizer(padding_side="left"))
    processor.save_pretrained(tmp_path)
    loaded = FastVLMProcessor.from_pretrained(tmp_path, backend="pil")
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.image_token_id == processor.image_token_id and loaded.tokenizer.padding_side == "left"
    inputs = [each(images=picture(), text="<image> a", return_tensors="pt") for each in (processor, loaded)]
    assert all(torch.equal(value, inputs[1][key]) for key, value in inputs[0].items())
    assert (tmp_path / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_a_custom_chat_template_survives(tmp_path):
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    processor = FastVLMProcessor(FastVLMImageProcessorPil(size=64), qwen2_tokenizer(), chat_template=template)
    processor.save_pretrained(tmp_path)
    assert FastVLMProcessor.from_pretrained(tmp_path).chat_template == template


def test_options_at_load(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = FastVLMProcessor.from_pretrained(tmp_path, size=256, padding_side="left", backend="pil")
    assert isinstance(loaded.image_processor, FastVLMImageProcessorPil)
    assert processor(images=picture(), text="<image>", size=256) and loaded.tokenizer.padding_side == "left"
    assert loaded(images=picture(), text="<image>", return_tensors="pt").input_ids.shape == (1, 16)
    assert "size" not in loaded.tokenizer.init_kwargs
    with pytest.raises(ValueError, match="not divisible by 64"):
        FastVLMProcessor.from_pretrained(tmp_path, size=100)
    with pytest.raises(ValueError, match="`backend` must be"):
        FastVLMProcessor.from_pretrained(tmp_path, backend="numpy")


def test_image_processor_saved_beside_the_processor(processor, tmp_path):
    """The layout of transformers before the image processor's options moved into `processor_config.json`."""
    processor.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "processor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings.pop("image_processor")))
    (tmp_path / "processor_config.json").write_text(json.dumps(settings))
    assert FastVLMProcessor.from_pretrained(tmp_path, backend="pil").to_dict() == processor.to_dict()


def test_original_folder(original_folder):
    processor = FastVLMProcessor.from_pretrained(original_folder)
    assert processor.image_token_id == 151646 and processor.patch_size == 64
    assert processor.image_processor.get_resolution() == 1024
    assert processor.image_processor.do_pad and not processor.image_processor.do_tile
    assert processor.chat_template == CHAT_TEMPLATE
    tokenizer = processor.tokenizer
    assert (tokenizer.padding_side, tokenizer.model_max_length) == ("left", 8192)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    inputs = processor(images=picture(), text="<image>", size=512)
    assert inputs["input_ids"] == [[151646] * 64]


def test_original_folder_saved_as_own(original_folder, tmp_path):
    processor = FastVLMProcessor.from_pretrained(original_folder)
    processor.save_pretrained(tmp_path / "own")
    own = FastVLMProcessor.from_pretrained(tmp_path / "own")
    assert own.to_dict() == processor.to_dict() and own.image_token_id == 151646
    assert own.tokenizer.padding_side == "left" and own.tokenizer.model_max_length == 8192


def test_original_folder_with_a_clip_image_processor_and_a_text_only_template(tmp_path):
    tokenizer = qwen2_tokenizer(chat_template="{% for message in messages %}{{ message.content }}{% endfor %}")
    folder = write_original_folder(tmp_path, {**CONFIG, "mm_vision_tower": "mobileclip_l_512"}, tokenizer)
    clip = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 336}, "do_center_crop": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(clip))
    processor = FastVLMProcessor.from_pretrained(folder, backend="pil")
    assert isinstance(processor.image_processor, FastVLMImageProcessorPil) and processor.image_processor.do_pad
    assert processor.image_processor.get_resolution() == 512
    assert processor.chat_template == CHAT_TEMPLATE


def test_original_folder_takes_the_callers_choice(original_folder):
    processor = FastVLMProcessor.from_pretrained(
        original_folder, size=512, padding_side="right", model_max_length=99, chat_template="{{ messages }}"
    )
    assert processor.image_processor.get_resolution() == 512
    assert (processor.tokenizer.padding_side, processor.tokenizer.model_max_length) == ("right", 99)
    assert processor.chat_template == "{{ messages }}"


@pytest.mark.parametrize("pinpoints", [[[2048, 2048]], "[[2048, 2048]]", None])
def test_original_folder_with_tiles(tmp_path, pinpoints):
    config = {**CONFIG, "image_aspect_ratio": "anyres", "image_grid_pinpoints": pinpoints}
    processor = FastVLMProcessor.from_pretrained(write_original_folder(tmp_path, config, qwen2_tokenizer()))
    assert processor._get_num_multimodal_tokens([(100, 100)])["num_image_tokens"] == [1280]


def test_original_folder_without_padding(tmp_path):
    config = {**CONFIG, "image_aspect_ratio": "square"}
    processor = FastVLMProcessor.from_pretrained(write_original_folder(tmp_path, config, qwen2_tokenizer()))
    assert processor.image_processor.do_pad is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mm_vision_tower": "openai/clip-vit-large-patch14-336"}, "clip-vit-large.*mobileclip_l"),
        ({"mm_projector_type": "linear"}, "linear"),
        ({"image_aspect_ratio": "stretch"}, "'stretch'; known are"),
        ({"model_type": "qwen2"}, "no FastVLM checkpoint: its `model_type` is 'qwen2'"),
    ],
)
def test_unknown_parts_of_an_original_folder(tmp_path, change, message):
    folder = write_original_folder(tmp_path, {**CONFIG, **change}, qwen2_tokenizer())
    with pytest.raises(ValueError, match=message):
        FastVLMProcessor.from_pretrained(folder)


def test_upstream_folder(tmp_path):
    tokenizer = qwen2_tokenizer(151643, image_token=True, eos_token="<|endoftext|>", padding_side="right")
    config = {"model_type": "fast_vlm", "image_token_id": 151646, "text_config": {"model_type": "qwen2"}}
    folder = write_original_folder(tmp_path, config, tokenizer)
    clip = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "do_center_crop": True,
        "crop_size": {"height": 512, "width": 512},
        "size": {"shortest_edge": 512},
        "image_mean": [0.0, 0.0, 0.0],
        "image_std": [1.0, 1.0, 1.0],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(clip))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "LlavaProcessor", "patch_size": 64}))
    (folder / "chat_template.jinja").write_text("{% for message in messages %}\n{{ message.content }}{% endfor %}")
    processor = FastVLMProcessor.from_pretrained(folder)
    assert processor.image_processor.get_resolution() == 512 and processor.image_processor.do_pad
    assert processor.image_token_id == 151646 and processor.chat_template == CHAT_TEMPLATE
    processor.save_pretrained(tmp_path / "own")
    for each in (processor, FastVLMProcessor.from_pretrained(tmp_path / "own")):
        assert (each.tokenizer.eos_token, each.tokenizer.padding_side) == ("<|im_end|>", "left")


def test_own_model_saved_without_its_processor(tmp_path):
    """Stride and resolution come from the configuration: four stages have a stride of 32."""
    vision = {
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 32, 32],
        "token_mixers": ["repmixer"] * 4,
        "image_size": 96,
    }
    folder = write_original_folder(tmp_path, {"model_type": "fastvlm", "vision_config": vision}, qwen2_tokenizer())
    processor = FastVLMProcessor.from_pretrained(folder)
    assert processor.patch_size == 32
    assert processor(images=picture(), text="<image>", return_tensors="pt").input_ids.shape == (1, 9)
