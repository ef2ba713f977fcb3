"""One process of the FSDP2 and DDP tests: five steps on its share of a batch. Argument: where the results go."""

import json
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


def train(model, batch: dict[str, torch.Tensor]) -> list[float]:
    """This process's losses in five steps."""
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3), lr=1e-3)
    losses = []
    for _ in range(5):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def trainable_model():
    model = tiny_model()
    train_only(model, PARTS)
    return model


def main(folder: Path) -> None:
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    for kind in KINDS:
        whole = trainable_model()
        model = shard(whole, world) if kind.startswith("fsdp") else DistributedDataParallel(whole)
        losses = torch.tensor(train(model, share(rank, world, text_alone=kind.endswith("text"))))
        distributed.all_reduce(losses)
        weights = get_model_state_dict(whole, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        if rank == 0:
            saved = tiny_model()
            saved.load_state_dict(weights)
            saved.save_pretrained(folder / kind)
            (folder / kind / "losses.json").write_text(json.dumps((losses / world).tolist()))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
