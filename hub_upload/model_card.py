# Copyright 2026 The transformers-fastvlm authors
# SPDX-License-Identifier: Apache-2.0
"""The model card: every number on it comes from a file of the checkpoint, the evaluation or the benchmark."""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from checkpoint_source import CheckpointSource, find_file
from folder_files import read_json
from licences import ATTRIBUTION, Licence
from publish_settings import QUANTIZED_VARIANTS, PublishError, PublishSettings
from transformers_fastvlm import FastVLMConfig, FastVLMForConditionalGeneration
from transformers_fastvlm.evaluation.comparison import read_results
from transformers_fastvlm.evaluation.report import score

_TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
_TASK = "image-text-to-text"
_BITS = {"int8": "8 bits", "nf4": "4 bits (NF4)"}


@dataclass(frozen=True)
class Measurements:
    """
    What was measured of a model.

    Args:
        results: what `fastvlm evaluate --output` wrote; empty if nothing was given.
        benchmark: what `fastvlm bench ttft --json` wrote.
    """

    results: dict[str, Any]
    benchmark: dict[str, Any] | None


def read_measurements(settings: PublishSettings) -> Measurements:
    """
    Read the files that the user gave.

    Raises:
        PublishError: if one is not in the form that `fastvlm` writes.
    """
    try:
        results = read_results(settings.results) if settings.results is not None else {}
    except ValueError as error:
        raise PublishError(str(error)) from error
    if settings.benchmark is None:
        return Measurements(results, None)
    benchmark = _read_object(settings.benchmark)
    if benchmark.get("benchmark") != "ttft":
        raise PublishError(f"{settings.benchmark} is not what `fastvlm bench ttft --json` writes.")
    return Measurements(results, benchmark)


def write_model_card(
    folder: Path, source: CheckpointSource, settings: PublishSettings, licence: Licence, measured: Measurements
) -> Path:
    """Write `README.md` beside the weights, and the picture that goes with it."""
    results = measured.results
    card = ModelCard.from_template(
        _card_data(source, settings, licence, results.get("results", [])),
        template_path=str(_TEMPLATE),
        name=settings.repo_id.split("/")[1],
        repo_id=settings.repo_id,
        adapter=settings.adapter,
        base_model=_base_model(source, settings),
        remote_code=settings.remote_code and not settings.adapter,
        quantized=settings.variant in QUANTIZED_VARIANTS,
        decoder=_decoder_name(source.config),
        parts=_parts(source.config),
        tokens=_token_rows(source.config),
        stored_as=_stored_as(folder, settings),
        results=[_result_row(result) for result in results.get("results", [])],
        results_command=without_paths(results.get("command") or ""),
        benchmark=_benchmark(measured.benchmark, folder),
        training=_training_rows(source),
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


def without_paths(text: str) -> str:
    """A command line without the folders of whoever ran it: of absolute paths, only the last part stays."""
    return re.sub(r"(?<![\w.:/])~?/(?:[^\s/]+/)*([^\s/]+)", r"\1", text)


def _base_model(source: CheckpointSource, settings: PublishSettings) -> str | None:
    """The Hub id of what the weights come from, as far as anything tells."""
    if settings.base_model is not None:
        return settings.base_model
    if not Path(source.model).exists():
        return source.model
    known = source.metadata.get("base_model")
    return known[0] if known else None


def _relation(settings: PublishSettings, source: CheckpointSource) -> str | None:
    if settings.adapter:
        return "adapter"
    if settings.variant in QUANTIZED_VARIANTS:
        return "quantized"
    return "finetune" if source.adapter is not None else None


def _card_data(
    source: CheckpointSource, settings: PublishSettings, licence: Licence, results: list[dict[str, Any]]
) -> ModelCardData:
    base_model = _base_model(source, settings)
    datasets = list(settings.datasets) or source.metadata.get("datasets")
    return ModelCardData(
        base_model=base_model,
        base_model_relation=_relation(settings, source) if base_model else None,
        datasets=datasets,
        language=list(settings.languages),
        library_name="peft" if settings.adapter else "transformers",
        license=licence.identifier,
        license_link="LICENSE" if licence.text is not None and licence.identifier == "other" else None,
        license_name=source.metadata.get("license_name") if licence.identifier == "other" else None,
        pipeline_tag=_TASK,
        tags=["fastvlm", "vision-language-model", *(["lora"] if settings.adapter else [])],
        model_name=settings.repo_id.split("/")[1] if results else None,
        eval_results=[_eval_result(result) for result in results] or None,
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except ValueError as error:
        raise PublishError(f"{path} is no JSON file: {error}") from error
    if not isinstance(content, dict):
        raise PublishError(f"{path} has no JSON object.")
    return content


def _eval_result(result: dict[str, Any]) -> EvalResult:
    return EvalResult(
        task_type=_TASK,
        dataset_type=result["dataset_id"] or result["task"],
        dataset_name=result["dataset_name"],
        dataset_split=result["dataset_split"],
        metric_type=result["metric"],
        metric_name=result["metric_name"],
        metric_value=round(result["value"], 2),
    )


def _result_row(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "dataset": result["dataset_name"],
        "split": result["dataset_split"] or "",
        "metric": result["metric_name"],
        "value": score(result),
        "samples": result["samples"],
    }


def _decoder_name(config: FastVLMConfig) -> str:
    return str(config.text_config.model_type).capitalize()


def _parts(config: FastVLMConfig) -> list[dict[str, str]]:
    with torch.device("meta"):
        model: Any = FastVLMForConditionalGeneration(config)
    base, vision, text = model.model, config.vision_config, config.text_config
    mixers = dict.fromkeys(vision.token_mixers)
    stages = f"{len(vision.depths)} stages of {', '.join(map(str, vision.depths))} blocks ({', '.join(mixers)})"
    layers = f"{text.num_hidden_layers} layers of width {text.hidden_size}, vocabulary {text.vocab_size}"
    described = [
        ("encoder", f"FastViTHD, {stages}, stride {vision.stride}", base.vision_tower),
        (
            "projector",
            f"{vision.hidden_size} to {text.hidden_size}, two linear layers",
            base.multi_modal_projector,
        ),
        (f"decoder ({_decoder_name(config)})", layers, base.language_model),
        ("head", "tied to the embedding" if config.tie_word_embeddings else "untied", model.lm_head),
    ]
    return [
        {"name": name, "what": what, "parameters": _millions(sum(p.numel() for p in module.parameters()))}
        for name, what, module in described
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
    config = read_json(folder / "config.json")
    return str(config.get("dtype", "float32"))


def _benchmark(content: dict[str, Any] | None, folder: Path) -> dict[str, Any] | None:
    if content is None:
        return None
    config, machine = content["config"], content["machine"]
    subject = "this model is `ours`" if config["model"] else f"`ours`: decoder {config['decoder']}, random weights"
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return {
        "machine": f"{machine['cpu']}, {threads}, device {machine['device']}, {config['dtype']}",
        "subject": subject,
        "rows": [
            {
                "model": point["model"],
                "pixels": f"{point['resolution']}²",
                "tokens": point["visual_tokens"],
                "first_token": f"{point['first_token'] * 1e3:.1f}",
                "speed": f"{point['tokens_per_second']:.1f}" if point["tokens_per_second"] else "–",
            }
            for point in content["points"]
        ],
        "picture": _draw(content, folder),
    }


def _draw(content: dict[str, Any], folder: Path) -> str | None:
    if find_spec("matplotlib") is None:
        return None
    from transformers_fastvlm.benchmark.plots import draw_stages
    from transformers_fastvlm.benchmark.report import ttft_benchmark_of

    return draw_stages(ttft_benchmark_of(content), folder / "ttft-stages.png").name


def _training_rows(source: CheckpointSource) -> list[dict[str, Any]]:
    """What the files beside the weights tell about how they came about."""
    datasets = source.metadata.get("datasets")
    rows = [{"name": "data", "value": ", ".join(datasets)}] if datasets else []
    adapter = source.adapter_config
    if adapter:
        rows += [{"name": "LoRA rank, alpha", "value": f"{adapter.get('r')}, {adapter.get('lora_alpha')}"}]
    state_file = find_file(source.location, "trainer_state.json")
    if state_file is not None:
        state = _read_object(state_file)
        losses = [entry for entry in state.get("log_history", []) if "eval_loss" in entry]
        rows += [
            {"name": "steps", "value": state["global_step"]},
            {"name": "epochs", "value": f"{state['epoch']:.2f}"},
        ]
        rows += [{"name": "loss on held-out data", "value": f"{losses[-1]['eval_loss']:.4g}"}] if losses else []
    return rows
