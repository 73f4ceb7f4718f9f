"""An exported student, used as any other: the folder of `deployment.export`, its network computed by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from evokd_data.errors import StudentError
from evokd_data.students import Examples, Predict, Student, TrainingData
from evokd_data.students.checkpoint import read_metadata
from evokd_data.students.encoding import ExampleEncoder, truncated
from evokd_data.students.prediction import predict_in_batches

ONNX = "onnx"
"""The student's kind in the metadata of an exported folder. It is in no recipe: nothing can be trained with it."""
MODEL_FILE = "model.onnx"
MISSING = "{name} is not installed, and exported students need it; run: pip install 'evokd-data[export]'"
BATCH = 64


class OnnxStudent(Student):
    """An exported student. Its checkpoint is the folder with `model.onnx` and the tokenizer."""

    name: ClassVar[str] = ONNX

    def identity(self) -> Mapping[str, Any]:
        return {}

    def fit(self, data: TrainingData, into: Path) -> dict[str, Any]:
        raise StudentError("an exported student learns nothing more; train the student that it was exported from")

    def truncated(self, examples: Examples, checkpoint: Path) -> int:
        return truncated(checkpoint, examples, read_metadata(checkpoint, self.name)["max_length"])

    def predict(self, examples: Examples, checkpoint: Path) -> Any:
        return self.predictor(checkpoint)(examples)

    def predictor(self, checkpoint: Path) -> Predict:
        from transformers import AutoTokenizer

        metadata = read_metadata(checkpoint, self.name)
        logits = onnx_logits(checkpoint / MODEL_FILE)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
        encoder = ExampleEncoder(tokenizer, None, metadata["max_length"])
        classes, words = metadata["classes"], metadata["words"]
        return lambda examples: predict_in_batches(examples, BATCH, encoder, logits, classes, words)


def onnx_logits(model: Path, threads: int | None = None) -> Callable[[Mapping[str, Any]], Any]:
    """A function from padded inputs, tensors (N, T), to logits, a tensor. `threads` None: ONNX Runtime decides.

    Raises StudentError when ONNX Runtime is not installed or cannot read the file.
    """
    import torch

    try:
        import onnxruntime
    except ImportError:
        raise StudentError(MISSING.format(name="onnxruntime")) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors: it warns of initialisers it could fold
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no class of their own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StudentError(f"{model}: ONNX Runtime cannot read it ({reason}); export the student again") from None

    def logits(inputs: Mapping[str, Any]) -> Any:
        arrays = {name: inputs[name].numpy() for name in ("input_ids", "attention_mask")}
        return torch.from_numpy(session.run(None, arrays)[0])

    return logits
