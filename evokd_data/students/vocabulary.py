"""Training only the token embeddings that occur in the data, so that the optimizer need not update the whole vocabulary.

A gradient reaches only the embeddings of tokens that occur. AdamW would read and write all the others at every step, to
shrink them by learning rate x decay. MiniLM has 30,522 of them, half of its parameters; 13,784 texts of SNIPS have 9,480
different tokens, 10,003 of banking77 2,421. Short texts of these and two other sets were learned 1.16 to 1.32 times as fast
(medians of 9 turns).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray


@contextmanager
def trimmed_embeddings(model: Any, tokens: NDArray[Any]) -> Iterator[None]:
    """Inside the block the input embeddings of `model` are only those of `tokens`: sorted ids, with the padding's.

    Afterwards they are back in the whole matrix, and the embeddings of other tokens have not changed. Parameters keep their
    names, and the model gets the same token ids as before. A model whose embeddings are another kind of module, or are
    shared with another part of it, is not changed.
    """
    import torch

    embedding = model.get_input_embeddings()
    if type(embedding).forward is not torch.nn.Embedding.forward or _owners(model, embedding.weight) > 1:
        yield
        return
    whole, size, padding = embedding.weight.detach(), embedding.num_embeddings, embedding.padding_idx
    ids = torch.from_numpy(tokens)
    row_of_id = torch.full((size,), size)  # `size` is out of range, so an id that is not in `tokens` fails
    row_of_id[ids] = torch.arange(len(ids))

    def ids_to_rows(_: Any, inputs: tuple[Any, ...]) -> Any:
        nonlocal row_of_id
        row_of_id = row_of_id.to(inputs[0].device)
        return (row_of_id[inputs[0]],)

    embedding.weight = torch.nn.Parameter(whole[ids])
    embedding.num_embeddings = len(ids)
    embedding.padding_idx = int(row_of_id[padding]) if padding in tokens else None
    hook = embedding.register_forward_pre_hook(ids_to_rows)
    try:
        yield
    finally:
        hook.remove()
        trained = embedding.weight.detach()
        whole = whole.to(trained.device)
        whole[ids.to(trained.device)] = trained
        embedding.weight, embedding.num_embeddings, embedding.padding_idx = torch.nn.Parameter(whole), size, padding


def _owners(model: Any, weight: Any) -> int:
    """The number of modules that own this parameter."""
    return sum(parameter is weight for module in model.modules() for parameter in module.parameters(recurse=False))
