"""Every module of a model belongs to the part that its name says."""

import pytest
from torch import nn

from tiny_models import tiny_model
from transformers_fastvlm.parts import MODULES, module_names, part_of


@pytest.mark.parametrize("part", MODULES)
@pytest.mark.parametrize("prefix", ["", "base_model.model."])
def test_parts_are_modules_and_know_their_parameters(part, prefix):
    model = tiny_model()
    module = model.get_submodule(MODULES[part])
    assert isinstance(module, nn.Module)
    names = [name for name, _ in module.named_parameters()]
    assert names
    for name in names:
        assert part_of(f"{prefix}{MODULES[part]}.{name}") == part


def test_every_parameter_is_of_the_part_whose_module_it_is_in():
    model = tiny_model()
    for name, _ in model.named_parameters():
        assert name.startswith(f"{MODULES[part_of(name)]}.")
    for name, _ in model.model.named_parameters():
        assert name.startswith(f"{module_names(part_of(name))[-1]}.")
