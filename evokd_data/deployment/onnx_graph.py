"""A student's network as one ONNX file, by torch's own exporter; and the same with 8-bit weights.

optimum's exporter is not used: its last release (optimum-onnx 0.1) wants transformers before 4.58, and students are loaded with 5.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evokd_data.deployment.onnx_student import MISSING
from evokd_data.errors import StudentError
from evokd_data.students import Network
from evokd_data.students.encoding import ExampleEncoder

LARGE = 1_500_000_000
"""Bytes of weights from which they lie in a file beside the graph: a Protobuf message ends at 2 GiB."""
EXAMPLE_TEXTS = 2
EXAMPLE_TOKENS = 12


def export_onnx(network: Network, path: Path) -> None:
    """Write the network to `path`: `input_ids` and `attention_mask`, int64 (batch, tokens), to `logits`.

    Both dimensions are free. Raises StudentError when a package is missing or the exporter cannot write the network.
    """
    import torch

    _require("onnx", "onnxscript")
    ids = torch.full((EXAMPLE_TEXTS, EXAMPLE_TOKENS), int(network.tokenizer.pad_token_id))
    ids[:, : EXAMPLE_TOKENS // 2] = torch.arange(EXAMPLE_TOKENS // 2)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", max=network.max_length)}
    with _quiet():
        try:
            torch.onnx.export(
                network.module,
                (),
                str(path),
                kwargs=inputs,
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes=dict.fromkeys(inputs, dimensions),
                dynamo=True,
                external_data=weight_bytes(network.module) > LARGE,
                verbose=False,
            )
        except Exception as error:  # of many kinds: whatever torch.export meets in a model's code
            cause = error.__cause__ or error
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise StudentError(
                f"{type(network.config).__name__}: torch cannot export this architecture ({reason}); choose another student.model"
            ) from error


def quantise(path: Path) -> None:
    """Replace the weights of a file that `export_onnx` wrote by 8-bit integers, one scale for each output channel.

    Activations are quantised as they are computed (dynamic quantisation), so no calibration data are needed.
    """
    _require("onnx", "onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    large = path.stat().st_size > LARGE or path.with_name(f"{path.name}.data").exists()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder, _quiet():
        prepared, quantised = Path(folder) / "prepared.onnx", Path(folder) / path.name
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True, save_as_external_data=large)
        quantize_dynamic(
            str(prepared), str(quantised), weight_type=QuantType.QInt8, per_channel=True, use_external_data_format=large
        )
        for file in (path, path.with_name(f"{path.name}.data")):
            file.unlink(missing_ok=True)
        for file in Path(folder).glob(f"{path.name}*"):
            file.replace(path.with_name(file.name))


def refuse_token_types(network: Network, texts: list[Any]) -> None:
    """The graph has no input for token types. Raises StudentError when the tokenizer gives some that are not 0."""
    encoder = ExampleEncoder(network.tokenizer, network.module, network.max_length)
    if any(len(example.types) for example in encoder.encode(texts)):
        raise StudentError(
            f"{type(network.tokenizer).__name__}: gives tokens types, which the exported graph does not take; choose another "
            "student.model"
        )


def weight_bytes(module: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def _require(*names: str) -> None:
    from importlib.util import find_spec

    for name in names:
        if find_spec(name) is None:
            raise StudentError(MISSING.format(name=name))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print and warn about what concerns their authors."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
