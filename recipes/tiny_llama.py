"""A Llama small enough to be trained on a laptop and committed to a repository: tokenizer, model, training, saving.

The teachers of both quickstarts are such models; the `train_teacher.py` of each makes its training data. The model has
3.5 million parameters (7 MB in bfloat16) and is trained from scratch in ten minutes of processor time. vLLM and
transformers load its folder.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evokd_data.records import Message

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VOCABULARY, CONTEXT, BATCH_TOKENS = 2048, 1024, 2048
WORDS = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+"

# The weight of a token's loss, by the role of its message. Prompts contain real utterances, which teach the language, too.
WEIGHTS = {"system": 0.0, "user": 0.3, "assistant": 1.0}

Conversation = Sequence[Message]
Encoded = tuple[list[int], list[float]]


def split_at(seams: str) -> pre_tokenizers.PreTokenizer:
    """A pre-tokenizer that splits at words, and so that matches of the pattern `seams` share no token with neighbours."""
    split = pre_tokenizers.Split(Regex(f"{seams}|{WORDS}"), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train_tokenizer(
    texts: Sequence[str], single_tokens: Sequence[str], pre_tokenizer: pre_tokenizers.PreTokenizer | None = None
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on `texts`. Each text of `single_tokens` is one token, also at the beginning of an answer.

    Each of them is repeated so often in the corpus that BPE merges it into one token. Without a `pre_tokenizer`, GPT-2's
    splits the texts.
    """
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, *list(single_tokens) * 500], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    split_texts = [text for text in single_tokens if len(tokenizer.encode(text)) != 1]
    assert not split_texts, f"of several tokens: {split_texts}"
    return tokenizer


def encode(conversation: Conversation, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """Token ids, as the chat template gives them, and the weight of each. Messages are encoded one by one."""
    ids: list[int] = []
    weights: list[float] = []
    for message in conversation:
        content = tokenizer.encode(f"<|{message.role}|>{message.content}{END}")
        ids += content
        # The role's token is given and never predicted. The end token is predicted only where the teacher has to stop.
        end = WEIGHTS["assistant"] if message.role == "assistant" else 0.0
        weights += [0.0, *[WEIGHTS[message.role]] * (len(content) - 2), end]
    return ids[:CONTEXT], weights[:CONTEXT]


def batches(
    converse: Callable[[], Conversation], tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches (ids, weights), each of shape (conversations, longest) with at most BATCH_TOKENS elements.

    Conversations of similar length share a batch.
    """
    while True:
        pool = sorted((encode(converse(), tokenizer) for _ in range(512)), key=lambda encoded: len(encoded[0]))
        groups: list[list[Encoded]] = [[]]
        for encoded in pool:
            if len(encoded[0]) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(encoded)
        rng.shuffle(groups)
        for group in groups:
            yield padded(group)


def padded(group: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and weights, each of shape (conversations, longest)."""
    width = max(len(ids) for ids, _ in group)
    return (
        torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in group]),
        torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in group]),
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """256 wide, 4 layers, 3.5 million parameters. Heads of 64 are the smallest that suit vLLM's CPU kernels."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            tie_word_embeddings=True,
            max_position_embeddings=CONTEXT,
            initializer_range=0.03,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def predict(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Logits, targets and weights of the tokens with a weight, and their rows and columns in `ids`.

    Padding is on the right, where causal attention does not look, so no mask is needed.
    """
    counted = weights[:, 1:] > 0  # the output layer costs most, so it runs only on tokens that are learned
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.lm_head(model.model(input_ids=ids).last_hidden_state[:, :-1][counted])
    row, column = counted.nonzero(as_tuple=True)
    return logits.float(), ids[:, 1:][counted], weights[:, 1:][counted], row, column + 1


def loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the cross-entropy of the tokens."""
    logits, targets, weights, *_ = predict(model, ids, weights)
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def train(
    model: LlamaForCausalLM,
    stream: Iterator[tuple[torch.Tensor, ...]],
    steps: int,
    warm_up_steps: int,
    objective: Callable[..., torch.Tensor] = loss,
    lr_scale: float = 1.0,
) -> None:
    """Train with Muon (Jordan 2024) for the inner matrices and AdamW for all other parameters.

    The learning rates rise during `warm_up_steps`, stay, and fall linearly to zero in the last 70 % of the steps. `lr_scale`
    scales them: less than 1 to go on from trained weights.
    """
    matrices = {name for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    optimizers = [
        torch.optim.Muon(
            [p for name, p in model.named_parameters() if name in matrices], lr=0.02 * lr_scale, weight_decay=0.05
        ),
        torch.optim.AdamW(
            [p for name, p in model.named_parameters() if name not in matrices],
            lr=0.003 * lr_scale,
            betas=(0.9, 0.98),
            weight_decay=0,
        ),
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm_up_steps, (steps - step) / (0.7 * steps), 1.0)
        )
        for optimizer in optimizers
    ]
    model.train()
    started, losses = time.process_time(), []
    for step in range(1, steps + 1):
        value = objective(model, *next(stream))
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(value.item())
        if step % 100 == 0 or step == steps:
            cpu_s = time.process_time() - started
            print(f"step {step}/{steps}  loss {np.mean(losses[-100:]):.3f}  {cpu_s:.0f} CPU-s", flush=True)
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that vLLM and transformers load: weights in bfloat16, tokenizer, chat template, generation settings."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=0.7
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
