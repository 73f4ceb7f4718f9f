"""Training the words that a data has, and no others: the optimizer need not carry the whole vocabulary.

A gradient reaches only the embeddings of tokens that occur. AdamW would read and write all the others at every step, to
shrink them by learning rate x decay. MiniLM has 30,522 of them, half of its parameters; 13,784 texts of SNIPS have 9,480
different tokens, 10,003 of banking77 2,421. The short texts of these and two other sets were learned 1.16 to 1.32 times as
fast for it (medians of 9 turns).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray


@contextmanager
def trimmed(model: Any, tokens: NDArray[Any]) -> Iterator[None]:
    """Within the block the input embeddings of `model` are those of `tokens` (sorted ids, the padding's among them)
    alone; afterwards they are back in their places, and those of other tokens are what they were.

    Parameters keep their names, and the model is given the same token ids as ever. A model whose embeddings are another
    kind of module, or shared with another part of it, is left whole.
    """
    import torch

    embedding = model.get_input_embeddings()
    if type(embedding).forward is not torch.nn.Embedding.forward or _owners(model, embedding.weight) > 1:
        yield
        return
    whole, size, padding = embedding.weight.detach(), embedding.num_embeddings, embedding.padding_idx
    kept = torch.from_numpy(tokens)
    places = torch.full((size,), size)  # of a token that was not announced: an index that fails
    places[kept] = torch.arange(len(kept))

    def place(_: Any, inputs: tuple[Any, ...]) -> Any:
        nonlocal places
        places = places.to(inputs[0].device)
        return (places[inputs[0]],)

    embedding.weight = torch.nn.Parameter(whole[kept])
    embedding.num_embeddings = len(kept)
    embedding.padding_idx = int(places[padding]) if padding in tokens else None
    hook = embedding.register_forward_pre_hook(place)
    try:
        yield
    finally:
        hook.remove()
        trained = embedding.weight.detach()
        whole = whole.to(trained.device)
        whole[kept.to(trained.device)] = trained
        embedding.weight, embedding.num_embeddings, embedding.padding_idx = torch.nn.Parameter(whole), size, padding


def _owners(model: Any, weight: Any) -> int:
    return sum(each is weight for module in model.modules() for each in module.parameters(recurse=False))
