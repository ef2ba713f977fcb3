"""What tests of evaluation share: the bundled checkpoint, and task definitions made on the spot."""

import io
from pathlib import Path

import datasets
import pyarrow.parquet
from PIL import Image

from transformers_fastvlm.evaluation import EvaluationConfig
from transformers_fastvlm.inference import ModelOptions

ROOT = Path(__file__).parents[2]
BUNDLED = ROOT / "checkpoints" / "tiny-reader"
TASKS = BUNDLED / "evaluation" / "tasks"
OWN_TASKS = ("tiny_reading", "tiny_counting", "tiny_colours", "tiny_digits", "tiny_matching", "tiny_retrieval")


def config(
    folder: Path, *tasks: str, model: Path = BUNDLED, batch_size: int = 8, include_path: Path = TASKS, **options
) -> EvaluationConfig:
    """One evaluation of the bundled checkpoint, on its own tasks, with everything it writes in `folder`."""
    chosen = {
        name: options.pop(name) for name in ("dtype", "quantization", "adapter", "resolution") if name in options
    }
    options |= {"output": folder / "results.json", "include_path": include_path}
    return EvaluationConfig(ModelOptions(str(model), **chosen), tasks, batch_size, **options)


def image_bytes(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def write_task(folder: Path, name: str, images: list[bytes], **columns: list) -> None:
    """A task with one image a document: to be answered in words, or with `choices` and `label` columns by choosing."""
    rows = {
        "image": [{"bytes": data, "path": None} for data in images],
        "question": ["What does it say?"] * len(images),
        **columns,
    }
    texts = {"question": datasets.Value("string"), "answer": datasets.Value("string")}
    kinds = texts | {"choices": datasets.List(datasets.Value("string")), "label": datasets.Value("int64")}
    features = datasets.Features(
        {"image": datasets.Image(), "question": kinds["question"], **{column: kinds[column] for column in columns}}
    )
    table = datasets.Dataset.from_dict(rows, features).data.table
    pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    chooses = "choices" in columns
    target, metric = ("label", "acc") if chooses else ("answer", "exact_match")
    kind = "output_type: multiple_choice\ndoc_to_choice: choices" if chooses else "output_type: generate_until"
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: parquet\ndataset_kwargs:\n  data_files:\n    test: {name}.parquet\n"
        f"test_split: test\n{kind}\ndoc_to_visual: image\ndoc_to_text: question\ndoc_to_target: {target}\n"
        f"metric_list:\n  - metric: {metric}\n    aggregation: mean\n    higher_is_better: true\n"
        + ("" if chooses else "generation_kwargs:\n  max_new_tokens: 12\n")
    )
