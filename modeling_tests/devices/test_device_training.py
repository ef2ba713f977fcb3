"""Training on the device under test: the gradients and losses of the CPU."""

import copy

import pytest
import torch

from conftest import assert_close_to_largest
from device_under_test import BUNDLED, DEVICE, moved, random_pixels
from test_modeling_fastvlm import PROMPTS, pad
from tiny_models import tiny_model, write_tiny_checkpoint
from transformers_fastvlm import AutoModelForVision2Seq
from transformers_fastvlm.quantization import quantization_config
from transformers_fastvlm.training import lora_target_modules

pytestmark = pytest.mark.usefixtures("exact_float32")


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    inputs = pad(PROMPTS, "right") | {"pixel_values": random_pixels(3)}
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    return inputs | {"labels": labels.masked_fill(labels == 99, -100)}


def loss_and_gradients(model, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    device = next(model.parameters()).device
    loss = model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss
    loss.backward()
    gradients = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach().float().cpu(), gradients


def assert_same_gradients(actual, expected, tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    assert expected
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        difference = (actual[name] - gradient).abs().max()
        scale = max(gradient.abs().max(), 1e-3 * largest)  # what is nearly nothing is all rounding
        assert difference / scale < tolerance, f"{name} differs by {difference / scale:.1e}"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("reparameterized", [True, False], ids=["inference form", "training form"])
def test_gradients_of_everything(batch, reparameterized, checkpointing):
    model = tiny_model(vision={"reparameterized": reparameterized}).train()
    expected_loss, expected = loss_and_gradients(copy.deepcopy(model), batch)
    model.to(DEVICE)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    loss, gradients = loss_and_gradients(model, batch)
    assert_close_to_largest(loss, expected_loss)
    assert_same_gradients(gradients, expected, 2e-3)


def adapted(model):
    peft = pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")
    targets = lora_target_modules(model, projector=True, encoder=True)
    model = peft.get_peft_model(model, peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=targets))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.train()


def test_a_lora_step(batch):
    reference, model = adapted(tiny_model()), adapted(tiny_model()).to(DEVICE)
    expected_loss, expected = loss_and_gradients(reference, batch)
    loss, gradients = loss_and_gradients(model, batch)
    assert_close_to_largest(loss, expected_loss)
    assert_same_gradients(gradients, expected, 2e-3)
    after = []
    for each in (reference, model):
        trainable = [parameter for parameter in each.parameters() if parameter.requires_grad]
        torch.optim.SGD(trainable, lr=0.1).step()
        after.append(loss_and_gradients(each, batch)[0])
    assert_close_to_largest(after[1], after[0])
    assert after[0] < expected_loss


def test_bfloat16_by_autocast(batch):
    model = tiny_model().train()
    expected_loss, expected = loss_and_gradients(copy.deepcopy(model), batch)
    model.to(DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        loss = model(**moved(batch)).loss
    loss.backward()
    assert abs(loss.item() - expected_loss.item()) < 0.02 * expected_loss.item()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == expected.keys()
    flat, theirs = (torch.cat([each[name].flatten().cpu() for name in expected]) for each in (gradients, expected))
    assert torch.nn.functional.cosine_similarity(flat, theirs, dim=0) > 0.99


def bitsandbytes_model(folder, scheme: str):
    pytest.importorskip("accelerate.utils", reason="transformers quantizes through accelerate")
    pytest.importorskip("bitsandbytes", reason="its schemes need bitsandbytes (the `quantization` extra)")
    config = quantization_config(scheme, torch.float32)
    return AutoModelForVision2Seq.from_pretrained(
        folder, quantization_config=config, dtype=torch.float32, device_map={"": DEVICE}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    text = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"), **text)


def quantized_batch(model, batch) -> dict[str, torch.Tensor]:
    ids = batch["input_ids"]
    ids = ids.masked_fill(ids == 99, model.config.image_token_id)
    return moved(batch | {"input_ids": ids})


@torch.no_grad()
@pytest.mark.parametrize(("scheme", "tolerance"), [("nf4", 0.4), ("fp4", 0.5), ("bnb-int8", 0.1)])
def test_quantized_weights_stay_close(folder, batch, scheme, tolerance):
    model = bitsandbytes_model(folder, scheme).eval()
    exact = AutoModelForVision2Seq.from_pretrained(folder).eval().to(DEVICE)
    inputs = quantized_batch(model, batch)
    expected = exact(**inputs).logits
    logits = model(**inputs).logits
    assert logits.device.type == DEVICE.type
    assert 0 < (logits - expected).norm() / expected.norm() < tolerance


@pytest.mark.parametrize("scheme", ["nf4", "bnb-int8"])
def test_a_lora_step_over_quantized_weights(folder, batch, scheme):
    peft = pytest.importorskip("peft", reason="LoRA needs PEFT (the `train` extra)")
    model = peft.prepare_model_for_kbit_training(bitsandbytes_model(folder, scheme), use_gradient_checkpointing=True)
    config = peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=lora_target_modules(model))
    model = peft.get_peft_model(model, config).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    inputs, losses = quantized_batch(model, batch), []
    for _ in range(5):
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01, losses


@pytest.mark.parametrize("scheme", ["nf4", "bnb-int8"])
def test_the_bundled_checkpoint_quantized_answers(scheme):
    model = bitsandbytes_model(BUNDLED, scheme).eval()
    ids = torch.tensor([[5, *[model.config.image_token_id] * 9, 7, 8]])
    output = model.generate(**moved({"input_ids": ids, "pixel_values": random_pixels(1, 192, 192)}), max_new_tokens=4)
    assert output.shape[1] > ids.shape[1]
