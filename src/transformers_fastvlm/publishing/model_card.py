# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The model card: every number on it comes from a file of the checkpoint, the evaluation or the benchmark."""

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .. import FastVLMConfig, FastVLMForConditionalGeneration
from ..extras import is_installed
from ..parts import MODULES, Part
from ..training.card import usage
from .card_material import TASK, CardMaterial
from .checkpoint_source import CheckpointSource
from .folder_files import read_object
from .licences import ATTRIBUTION, Licence
from .publish_settings import QUANTIZED_VARIANTS, PublishSettings

_TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
EXAMPLE = "example.png"
HUB = "https://huggingface.co"
# What readers of weights of few bits need besides, by the method that their configuration names.
_READERS = {"bitsandbytes": ["accelerate", "bitsandbytes"], "torchao": ["accelerate", "torchao"]}
_METHODS = {"int8": "torchao", "nf4": "bitsandbytes"}
_TAGS = {"onnx": ["onnx", "transformers.js"], "openvino": ["openvino"]}
_BITS = {"int8": "8 bits", "nf4": "4 bits (NF4)"}


def write_model_card(
    folder: Path, source: CheckpointSource, settings: PublishSettings, licence: Licence, material: CardMaterial
) -> Path:
    """Write `README.md` beside the weights, and the pictures that go with it."""
    material.example.save(folder / EXAMPLE)
    card = ModelCard.from_template(
        _card_data(source, settings, licence, material.scores),
        template_path=str(_TEMPLATE),
        name=settings.repo_id.split("/")[1],
        repo_id=settings.repo_id,
        adapter=settings.adapter,
        base_model=_base_model(source, settings),
        usage=usage(settings.repo_id),
        remote_code=settings.remote_code and not settings.adapter,
        quantized=settings.variant in QUANTIZED_VARIANTS or source.is_quantized,
        exports=settings.export_precisions,
        decoder=_decoder_name(source.config),
        parts=_parts(source.config),
        tokens=_token_rows(source.config),
        stored_as=_stored_as(folder, settings),
        requirements=_requirements(source, settings),
        example=EXAMPLE,
        example_prompt=settings.example_prompt,
        results=material.score_rows,
        results_command=material.command,
        benchmark=material.benchmark_table,
        benchmark_picture=_draw(material.benchmark, folder) if material.benchmark else None,
        training=material.training,
        is_original=licence.is_original,
        license=licence.identifier,
        attribution=ATTRIBUTION,
        modifications=licence.modifications,
        has_license_file=licence.text is not None,
    )
    path = folder / "README.md"
    card.save(path)
    path.write_text(_tidy(path.read_text(encoding="utf-8")), encoding="utf-8")
    return path


def _tidy(text: str) -> str:
    return re.sub(r"\n{3,}", "\n\n", text)


def _base_model(source: CheckpointSource, settings: PublishSettings) -> str | None:
    """The Hub id of what the weights come from, as far as anything tells."""
    if settings.base_model is not None:
        return settings.base_model
    if source.model.is_on_hub:
        return source.model.location
    known = source.metadata.get("base_model")
    return known[0] if known else None


def _relation(settings: PublishSettings, source: CheckpointSource) -> str | None:
    if settings.adapter:
        return "adapter"
    if settings.variant in QUANTIZED_VARIANTS:
        return "quantized"
    return "finetune" if source.adapter is not None else None


def _requirements(source: CheckpointSource, settings: PublishSettings) -> list[str]:
    """What `pip` is to install besides this package."""
    quantization: Any = getattr(source.config, "quantization_config", None) or {}
    stored = quantization if isinstance(quantization, dict) else quantization.to_dict()
    method = _METHODS.get(settings.variant or "", stored.get("quant_method"))
    return [*(["peft"] if settings.adapter else []), *_READERS.get(str(getattr(method, "value", method)), [])]


def _card_data(
    source: CheckpointSource, settings: PublishSettings, licence: Licence, scores: list[EvalResult]
) -> ModelCardData:
    base_model = _base_model(source, settings)
    datasets = list(settings.datasets) or source.datasets or None
    return ModelCardData(
        base_model=base_model,
        base_model_relation=_relation(settings, source) if base_model else None,
        datasets=datasets,
        language=list(settings.languages),
        library_name="peft" if settings.adapter else "transformers",
        license=licence.identifier,
        license_link=licence.link,
        license_name=licence.name,
        pipeline_tag=TASK,
        # The Hub's widget for images and questions is that of conversational models.
        tags=[
            *("fastvlm", "vision-language-model", "conversational"),
            *(["lora"] if settings.adapter else []),
            *(tag for target in settings.export_precisions for tag in _TAGS[target]),
        ],
        model_name=settings.repo_id.split("/")[1] if scores else None,
        eval_results=scores or None,
        widget=[{"text": settings.example_prompt, "src": f"{HUB}/{settings.repo_id}/resolve/main/{EXAMPLE}"}],
    )


def _decoder_name(config: FastVLMConfig) -> str:
    return str(config.text_config.model_type).capitalize()


def _parts(config: FastVLMConfig) -> list[dict[str, str]]:
    with torch.device("meta"):
        model: Any = FastVLMForConditionalGeneration(config)
    vision, text = config.vision_config, config.text_config
    mixers = dict.fromkeys(vision.token_mixers)
    stages = f"{len(vision.depths)} stages of {', '.join(map(str, vision.depths))} blocks ({', '.join(mixers)})"
    described: dict[Part, str] = {
        "encoder": f"FastViTHD, {stages}, stride {vision.stride}",
        "projector": f"{vision.hidden_size} to {text.hidden_size}, two linear layers",
        "decoder": f"{text.num_hidden_layers} layers of width {text.hidden_size}, vocabulary {text.vocab_size}",
        "head": "tied to the embedding" if config.tie_word_embeddings else "untied",
    }
    counts = {part: sum(p.numel() for p in model.get_submodule(MODULES[part]).parameters()) for part in described}
    return [
        {
            "name": f"{part} ({_decoder_name(config)})" if part == "decoder" else part,
            "what": what,
            "parameters": _millions(counts[part]),
        }
        for part, what in described.items()
    ]


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else str(count)


def _token_rows(config: FastVLMConfig) -> list[dict[str, Any]]:
    """Visual tokens at the resolution of training, around it, and in tiles."""
    stride, usual = config.vision_config.stride, config.vision_config.image_size
    sides = sorted({side for side in (usual // 4, usual // 2, 3 * usual // 4, usual, 3 * usual // 2) if side})
    rows = [
        {"image": f"{side}×{side}{', as trained' if side == usual else ''}", "tokens": (side // stride) ** 2}
        for side in sides
        if side % stride == 0
    ]
    rows.append({"image": f"2×2 tiles of {usual}×{usual} and the overview", "tokens": 5 * config.image_seq_length})
    return rows


def _stored_as(folder: Path, settings: PublishSettings) -> str:
    if settings.variant in QUANTIZED_VARIANTS:
        return f"{_BITS[settings.variant]}, encoder, projector and head as they were"
    if settings.adapter:
        return "safetensors files"
    config = read_object(folder / "config.json")
    if method := config.get("quantization_config", {}).get("quant_method"):
        return f"few bits ({method}), as in the source"
    return str(config.get("dtype", "float32"))


def _draw(content: dict[str, Any], folder: Path) -> str | None:
    if not is_installed("matplotlib"):
        return None
    from ..benchmark.plots import draw_stages

    return draw_stages(content, folder / "ttft-stages.png").name
