"""One process of the distributed tests: five steps on its share of a batch. Arguments: where the results go, kinds."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model
from transformers_fastvlm.training import PARTS, parameter_groups, train_only

KINDS = ("fsdp", "fsdp-text", "ddp-text")  # with "text", the second process has no image
ZERO3 = {
    "train_micro_batch_size_per_gpu": 2,
    "gradient_clipping": 0.0,  # it clips by default
    "zero_allow_untested_optimizer": True,
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
}


def share(rank: int, world: int, text_alone: bool) -> dict[str, torch.Tensor]:
    """This process's rows of a batch of four, of which the latter two may have no image."""
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(2, 90, (4, 9), generator=generator)
    images = torch.full((4, TOKENS_PER_IMAGE), IMAGE_TOKEN_ID)
    labels = torch.cat([torch.full((4, 1 + TOKENS_PER_IMAGE), -100), text[:, 1:]], dim=1)
    pixels = list(torch.rand(4, 1, 3, 128, 128, generator=generator))
    if text_alone:
        images[2:] = 5
        pixels[2:] = [None, None]
    rows = torch.arange(4).chunk(world)[rank]
    shown = [pixels[row] for row in rows if pixels[row] is not None]
    input_ids = torch.cat([text[:, :1], images, text[:, 1:]], dim=1)
    result = {"input_ids": input_ids[rows], "labels": labels[rows]}
    return result | ({"pixel_values": torch.cat(shown)} if shown else {})


def shard(model, world: int):
    mesh = distributed.init_device_mesh("cpu", (world,))
    blocks = [*model.model.language_model.layers, *(b for s in model.model.vision_tower.stages for b in s.blocks)]
    for block in blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def train(model, batch: dict[str, torch.Tensor], engine=None) -> list[float]:
    """This process's losses in five steps, which DeepSpeed's engine takes if there is one."""
    optimizer = engine or torch.optim.AdamW(parameter_groups(model, 1e-3), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = (engine or model)(**batch).loss
        if engine:
            engine.backward(loss)
        else:
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def trainable_model():
    model = tiny_model()
    train_only(model, PARTS)
    return model


def whole_weights(model) -> dict[str, torch.Tensor]:
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def train_zero3(model, batch: dict[str, torch.Tensor]) -> tuple[list[float], dict[str, torch.Tensor] | None]:
    import deepspeed

    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3), lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=ZERO3)
    losses = train(model, batch, engine)
    return losses, engine._zero3_consolidated_16bit_state_dict()  # as accelerate saves


def main(folder: Path, kinds: list[str]) -> None:
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    for kind in kinds:
        whole = trainable_model()
        batch = share(rank, world, text_alone=kind.endswith("text"))
        if kind.startswith("zero3"):
            losses, weights = train_zero3(whole, batch)
        else:
            losses = train(shard(whole, world) if kind.startswith("fsdp") else DistributedDataParallel(whole), batch)
            weights = whole_weights(whole)
        mean = torch.tensor(losses)
        distributed.all_reduce(mean)
        if rank == 0:
            saved = tiny_model()
            saved.load_state_dict(weights)
            saved.save_pretrained(folder / kind)
            (folder / kind / "losses.json").write_text(json.dumps((mean / world).tolist()))
    distributed.barrier()
    # Threads of gloo that are still there when the interpreter tears down abort the process now and then.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
