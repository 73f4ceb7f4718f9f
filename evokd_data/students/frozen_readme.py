"""README.md of a student that is a head on embeddings: how the folder is used, and where its encoder is."""

from __future__ import annotations

from collections.abc import Sequence

README = "README.md"


def frozen_readme(model: str, revision: str | None, classes: Sequence[str], words: bool) -> str:
    """The page. `model` and `revision` name the encoder as the recipe does, or as the Hub resolved them."""
    pinned = f", revision={revision!r}" if revision else ""
    use = _WORDS if words else _TEXTS.format(model=model, pinned=pinned)
    return _PAGE.format(model=f"{model} {revision or ''}".strip(), use=use, classes=", ".join(classes))


def tuned_readme(model: str, classes: Sequence[str], words: bool) -> str:
    """The page of a folder that holds the tuned encoder, too. `model` is what it was tuned from, as the recipe names it."""
    use = _WORDS if words else _TEXTS.format(model=".", pinned="")
    return _TUNED_PAGE.format(model=model, use=use, classes=", ".join(classes))


_TUNED_PAGE = """\
# A contrastively fine-tuned encoder, with a head

The encoder in this folder, in transformers' format, was tuned from {model}. `head.npz` is a logistic regression on its embeddings;
`evokd.json` has the names of its classes, the length at which texts are cut, and the digests of the files.

Classes, in the order of the rows of `coefficients`: {classes}.

## Using it

```python
{use}```

or `evokd-data predict FOLDER texts.csv`. `evokd-data export` makes one ONNX file of encoder and head.
"""

_PAGE = """\
# A student with frozen embeddings

`head.npz` is a logistic regression on the embeddings of {model}; `evokd.json` has the names of its classes, the length at which texts
are cut, and the digests of the files. The encoder is not in this folder.

Classes, in the order of the rows of `coefficients`: {classes}.

## Using it

```python
{use}```

or `evokd-data predict FOLDER texts.csv`. `evokd-data export` makes one ONNX file of encoder and head.
"""

_TEXTS = """\
import json, numpy, torch, transformers

facts, head = json.load(open("evokd.json")), numpy.load("head.npz")
tokenizer = transformers.AutoTokenizer.from_pretrained({model!r}{pinned})
encoder = transformers.AutoModel.from_pretrained({model!r}{pinned}).eval()
batch = tokenizer(["a text"], truncation=True, max_length=facts["max_length"], padding=True, return_tensors="pt")
with torch.inference_mode():
    hidden, mask = encoder(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()
print([facts["classes"][row.argmax()] for row in vectors @ head["coefficients"].T + head["intercepts"]])
"""

_WORDS = """\
from evokd_data import open_model

for row in open_model("FOLDER").predict(["a text"]):
    print(row["text"], row["spans"])
"""
