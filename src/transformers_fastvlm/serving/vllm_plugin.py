# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""What the entry point group `vllm.general_plugins` names: with this package installed, vLLM runs FastVLM."""

# As `config.json` names them: own checkpoints, and the authors'.
ARCHITECTURES = ("FastVLMForConditionalGeneration", "LlavaQwen2ForCausalLM")
# Named, not imported: vLLM imports models where no GPU has been touched yet.
_MODEL = f"{__package__}.vllm_model:TransformersMultiModalForCausalLM"
# Of `--tokenizer-mode`, and of the environment variable VLLM_MEDIA_CONNECTOR.
EXTENSIONS = "fastvlm"


def register() -> None:
    """
    Have vLLM run FastVLM through its transformers backend. vLLM calls it in each of its processes.

    The configurations, the model and the processor are registered by the import of this package.
    """
    from vllm import ModelRegistry
    from vllm.renderers.registry import RENDERER_REGISTRY
    from vllm.tokenizers.registry import TokenizerRegistry

    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, _MODEL)
    TokenizerRegistry.register(EXTENSIONS, f"{__package__}.vllm_tokenizer", "FastVLMTokenizer")
    RENDERER_REGISTRY.register(EXTENSIONS, "vllm.renderers.hf", "HfRenderer")

    from . import vllm_media  # noqa: F401 - registers itself
