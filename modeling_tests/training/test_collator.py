"""Batches for training, and the loss on them."""

import pytest
import torch

from chat_rows import make_processor, picture, turns
from tiny_models import tiny_model
from transformers_fastvlm.training import FastVLMDataCollator, RowFormat, require_isolation

ROWS = [
    {"messages": turns("What is it?", "A cat on a mat."), "images": [picture()]},
    {"messages": turns("Colour?", "Red."), "images": [picture(60, 90)]},
    {"messages": turns("How many are there?", "Three.", "Sure?", "Yes, three."), "images": [picture(50, 50)]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}], "images": []},
]


@pytest.fixture(scope="module")
def collator():
    return FastVLMDataCollator(make_processor())


@pytest.fixture(scope="module")
def model(collator):
    model = tiny_model(vocab_size=len(collator.processor.tokenizer), max_position_embeddings=512)
    model.config.image_token_id = collator.processor.image_token_id
    return model


def test_padding_is_on_the_right_and_not_learnt(collator):
    batch = collator(ROWS)
    rows = [collator([row]) for row in ROWS]
    longest = max(row["input_ids"].shape[1] for row in rows)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["labels"].shape == (4, longest)
    for index, row in enumerate(rows):
        length = row["input_ids"].shape[1]
        assert torch.equal(batch["input_ids"][index, :length], row["input_ids"][0])
        assert torch.equal(batch["labels"][index, :length], row["labels"][0])
        assert (batch["labels"][index, length:] == -100).all()
        assert batch["attention_mask"][index].tolist() == [1] * length + [0] * (longest - length)
    assert torch.equal(batch["pixel_values"], torch.cat([row["pixel_values"] for row in rows[:3]]))
    assert "pixel_values" not in rows[3]


def test_lengths_are_rounded_up(collator):
    padded = FastVLMDataCollator(collator.processor, pad_to_multiple_of=16)(ROWS)
    assert padded["input_ids"].shape[1] % 16 == 0


def test_columns_have_any_name(collator):
    rows = [{"talk": row["messages"], "picture": row["images"]} for row in ROWS]
    renamed = FastVLMDataCollator(collator.processor, RowFormat("talk", "picture"))
    assert torch.equal(renamed(rows)["input_ids"], collator(ROWS)["input_ids"])


@torch.no_grad()
def test_the_loss_is_that_of_the_assistants_tokens_alone(collator, model):
    """By hand: the mean of -log p(token | before) over the tokens of `answer<|im_end|>`, found in the text."""
    tokenizer = collator.processor.tokenizer
    batch = collator(ROWS)
    log_probabilities = model(**{k: v for k, v in batch.items() if k != "labels"}).logits.log_softmax(-1)
    losses = []
    for row, tokens in enumerate(batch["input_ids"].tolist()):
        start = tokenizer("<|im_start|>assistant\n").input_ids
        position = 0
        while position < len(tokens):
            if tokens[position : position + len(start)] != start:
                position += 1
                continue
            position += len(start)
            while True:
                losses.append(-log_probabilities[row, position - 1, tokens[position]])
                position += 1
                if tokens[position - 1] == tokenizer.convert_tokens_to_ids("<|im_end|>"):
                    break
    expected = torch.stack(losses).mean()
    assert len(losses) == (batch["labels"] != -100).sum()
    torch.testing.assert_close(model(**batch).loss, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_batch_has_the_loss_of_its_rows(collator, model):
    batch = collator(ROWS)
    count = (batch["labels"] != -100).sum()
    single = sum(model(**collator([row]), num_items_in_batch=count).loss for row in ROWS)
    torch.testing.assert_close(single, model(**batch).loss, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", ["gradient checkpointing", "eager attention"])
def test_loss_and_gradients_do_not_depend_on(change, collator, model):
    batch = collator(ROWS)
    model.train()

    def loss_and_gradients():
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    expected_loss, expected = loss_and_gradients()
    if change == "gradient checkpointing":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        model.set_attn_implementation("eager")
    try:
        loss, gradients = loss_and_gradients()
    finally:
        model.gradient_checkpointing_disable()
        model.set_attn_implementation("sdpa")
    torch.testing.assert_close(loss, expected_loss, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, expected[name], atol=1e-4 * expected[name].abs().max().item() + 1e-7, rtol=0
        )


@torch.no_grad()
def test_packed_rows_have_the_loss_of_padded_ones(collator, model):
    packed = FastVLMDataCollator(collator.processor, packing=True)(ROWS)
    padded = collator(ROWS)
    assert packed["input_ids"].shape == (1, padded["attention_mask"].sum())
    assert (packed["labels"] != -100).sum() == (padded["labels"] != -100).sum()
    require_isolation(model)
    together, apart = model(**packed), model(**padded)
    torch.testing.assert_close(together.loss, apart.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.logits[0], apart.logits[padded["attention_mask"].bool()], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_packed_rows_may_together_be_longer_than_the_context(collator, model):
    count = model.config.text_config.max_position_embeddings // collator(ROWS[:1])["input_ids"].shape[1] + 1
    packed = FastVLMDataCollator(collator.processor, packing=True)(ROWS[:1] * count)
    assert packed["input_ids"].shape[1] > model.config.text_config.max_position_embeddings
    torch.testing.assert_close(model(**packed).loss, model(**collator(ROWS[:1])).loss, atol=1e-5, rtol=1e-5)


def test_a_decoder_that_mixes_packed_rows_is_refused(model, monkeypatch):
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda position_ids=None, **given: forward(**given))
    with pytest.raises(ValueError, match="leave out --packing"):
        require_isolation(model)


@pytest.mark.parametrize("packing", [False, True])
def test_scores_of_learnt_positions_alone_give_the_same_loss_and_gradients(packing, collator, model):
    found = []
    for alone in (False, True):
        model.zero_grad()
        batch = FastVLMDataCollator(collator.processor, packing=packing, learnt_positions_only=alone)(ROWS)
        output = model(**batch)
        output.loss.backward()
        found.append(
            (output, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
        )
    (whole, gradients), (some, theirs) = found
    learnt = (batch["labels"][:, 1:] != -100).any(0)
    assert some.logits.shape[1] == learnt.sum() < whole.logits.shape[1]
    torch.testing.assert_close(some.logits, whole.logits[:, :-1][:, learnt])
    torch.testing.assert_close(some.loss, whole.loss)
    for ours, expected in zip(theirs, gradients, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-4)
