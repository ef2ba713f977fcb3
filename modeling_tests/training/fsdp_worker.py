"""One process of the FSDP2 test: five steps of training on its share of the batch. Usage: fsdp_worker.py FOLDER"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

from tiny_models import IMAGE_TOKEN_ID, TOKENS_PER_IMAGE, tiny_model
from transformers_fastvlm.training import PARTS, parameter_groups, train_only


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(2, 90, (4, 9), generator=generator)
    images = torch.full((4, TOKENS_PER_IMAGE), IMAGE_TOKEN_ID)
    labels = torch.cat([torch.full((4, 1 + TOKENS_PER_IMAGE), -100), text[:, 1:]], dim=1)
    pixels = torch.rand(4, 3, 128, 128, generator=generator)
    return {
        "input_ids": torch.cat([text[:, :1], images, text[:, 1:]], dim=1),
        "labels": labels,
        "pixel_values": pixels,
    }


def main(folder: Path) -> None:
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    model = tiny_model()
    train_only(model, PARTS)
    mesh = distributed.init_device_mesh("cpu", (world,))
    blocks = [*model.model.language_model.layers, *(b for s in model.model.vision_tower.stages for b in s.blocks)]
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(parameter_groups(model, 1e-3), lr=1e-3)
    share = {name: tensor.chunk(world)[rank] for name, tensor in batch().items()}
    losses = []
    for _ in range(5):
        loss = model(**share).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        mean = loss.detach().clone()
        distributed.all_reduce(mean)
        losses.append(mean.item() / world)
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        whole = tiny_model()
        whole.load_state_dict(weights)
        whole.save_pretrained(folder)
        (folder / "losses.json").write_text(json.dumps(losses))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
