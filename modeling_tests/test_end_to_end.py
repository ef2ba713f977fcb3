"""From image files and messages to text, as users go: processor, model, generation, pipeline."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, TextStreamer, pipeline

from helpers_tokenizer import qwen2_tokenizer
from tiny_models import write_tiny_checkpoint
from transformers_fastvlm import AutoModelForVision2Seq

GREEDY = {"max_new_tokens": 8, "do_sample": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def model(folder):
    return AutoModelForVision2Seq.from_pretrained(folder)


@pytest.fixture(scope="module")
def processor(folder):
    return AutoProcessor.from_pretrained(folder)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("photographs")
    paths = []
    for index, (width, height) in enumerate([(160, 90), (90, 160), (300, 200)]):
        pixels = np.random.RandomState(index).randint(0, 255, (height, width, 3), dtype=np.uint8)
        paths.append(str(folder / f"{index}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


def message(*images: str, text: str = "What is this?") -> list[dict]:
    content = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


def encode(processor, conversations, **arguments):
    return processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        **arguments,
    )


def answers(model, processor, inputs, **arguments) -> list[str]:
    output = model.generate(**inputs, **{**GREEDY, **arguments})
    return processor.batch_decode(output[:, inputs["input_ids"].shape[1] :])


def test_batch_of_conversations_as_each_alone(model, processor, photographs):
    conversations = [message(*photographs[:2]), message(text="And now?"), message(photographs[2])]
    together = answers(model, processor, encode(processor, conversations, padding=True))
    alone = [answers(model, processor, encode(processor, [conversation]))[0] for conversation in conversations]
    end = processor.tokenizer.pad_token
    assert [text.rstrip(end) for text in together] == [text.rstrip(end) for text in alone]
    assert len(set(together)) == 3


@pytest.mark.parametrize(("arguments", "crops", "side"), [({"size": 256}, 1, 256), ({"do_tile": True}, 5, 128)])
def test_resolution_and_tiles_per_call(model, processor, photographs, arguments, crops, side):
    inputs = encode(processor, [message(photographs[0])], **arguments)
    assert inputs["pixel_values"].shape == (crops, 3, side, side)
    placeholders = (inputs["input_ids"] == model.config.image_token_id).sum()
    assert placeholders == crops * (side // 64) ** 2
    assert "num_crops" not in inputs
    assert answers(model, processor, inputs)[0]


def test_text_streamer_prints_the_answer(model, processor, photographs, capsys):
    inputs = encode(processor, [message(photographs[0])])
    capsys.readouterr()
    model.generate(**inputs, **GREEDY, streamer=TextStreamer(processor.tokenizer, skip_prompt=True))
    assert capsys.readouterr().out.strip("\n") == answers(model, processor, inputs)[0].strip("\n")


def test_pipeline(folder, model, processor, photographs):
    pipe = pipeline("image-text-to-text", model=str(folder))
    expected = answers(model, processor, encode(processor, [message(photographs[0])]))
    expected = processor.tokenizer.decode(processor.tokenizer(expected[0]).input_ids, skip_special_tokens=True)
    result = pipe(text=message(photographs[0]), generate_kwargs=GREEDY, return_full_text=False)
    assert result[0]["generated_text"] == expected


def test_answer_ends_with_the_turn(folder, processor, photographs):
    model = AutoModelForVision2Seq.from_pretrained(folder)
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[end] = 1
    model.model.language_model.norm.register_forward_hook(lambda module, args, output: output.abs() + 1)
    inputs = encode(processor, [message(photographs[0])])
    assert model.generate(**inputs).shape[1] == inputs["input_ids"].shape[1] + 1


def test_processor_and_model_agree_on_the_placeholder(folder, model, processor):
    saved = json.loads((folder / "config.json").read_text())
    assert saved["image_token_id"] == processor.image_token_id == model.config.image_token_id


def test_loss_mask_of_the_assistants_turns_trains(model, processor, photographs):
    conversation = [*message(photographs[0]), {"role": "assistant", "content": [{"type": "text", "text": "A test."}]}]
    inputs = processor.apply_chat_template(
        [conversation], tokenize=True, return_dict=True, return_tensors="pt", return_assistant_tokens_mask=True
    )
    mask = torch.as_tensor(inputs.pop("assistant_masks")).bool()
    assert processor.decode(inputs["input_ids"][mask]) == "A test.<|im_end|>"
    labels = inputs["input_ids"].masked_fill(~mask, -100)
    assert torch.isfinite(model(**inputs, labels=labels).loss)


def test_original_folder_from_photograph_to_text(original_folder, golden, photographs, tmp_path):
    """Original weights and tokenizer, nothing else in the folder, down to the stop at <|im_end|>."""
    tokenizer = qwen2_tokenizer(151643, padding_side="right")
    tokenizer.save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(original_folder / name)
    model = AutoModelForVision2Seq.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path, size=256)
    inputs = encode(processor, [message(photographs[0])])
    assert inputs["pixel_values"].shape == (1, 3, 256, 256)
    assert (inputs["input_ids"] == 151646).sum() == 16
    prompt = inputs["input_ids"].shape[1]
    output = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert torch.equal(output[:, :prompt], inputs["input_ids"])
    assert output.shape[1] == prompt + 3
    other_image = inputs | {"pixel_values": 1 - inputs["pixel_values"]}
    with torch.no_grad():
        assert not torch.allclose(model(**other_image).logits[:, -1], model(**inputs).logits[:, -1])
    first = int(output[0, prompt])
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():  # the end of a turn becomes likelier than the token that it begins with
        model.lm_head.weight[stop] = 2 * model.lm_head.weight[first]
    stopped = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert stopped[0, prompt:].tolist() == [stop]
