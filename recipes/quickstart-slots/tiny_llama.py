"""A Llama small enough to be trained on a laptop and committed: tokenizer, model, training, saving.

What the quickstarts' teachers share; what they learn is in each one's `train_teacher.py`. Three and a half million
parameters (7 MB in bfloat16), from scratch, in ten minutes of processor time; vLLM and transformers load the folder.
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

# How much predicting a token counts. Prompts hold real utterances, and reading them teaches the language too.
WEIGHTS = {"system": 0.0, "user": 0.3, "assistant": 1.0}

Conversation = Sequence[Message]
Encoded = tuple[list[int], list[float]]


def train_tokenizer(texts: Sequence[str], whole: Sequence[str], seams: str = "") -> PreTrainedTokenizerFast:
    """Byte-level BPE, in which each of `whole` is one token, also where an answer begins with it.

    `seams`: a pattern whose matches share no token with what stands beside them.
    """
    bpe = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(f"{seams}|{WORDS}" if seams else WORDS), "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, *list(whole) * 500], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    cut = [text for text in whole if len(tokenizer.encode(text)) != 1]
    assert not cut, f"of several tokens: {cut}"
    return tokenizer


def encode(conversation: Conversation, tokenizer: PreTrainedTokenizerFast) -> Encoded:
    """Tokens and weights, what the chat template would give. One message at a time, so that no token spans two."""
    ids: list[int] = []
    weights: list[float] = []
    for message in conversation:
        content = tokenizer.encode(f"<|{message.role}|>{message.content}{END}")
        ids += content
        # The role's token is given, never predicted; the end only where the teacher itself has to stop.
        end = WEIGHTS["assistant"] if message.role == "assistant" else 0.0
        weights += [0.0, *[WEIGHTS[message.role]] * (len(content) - 2), end]
    return ids[:CONTEXT], weights[:CONTEXT]


def batches(
    converse: Callable[[], Conversation], tokenizer: PreTrainedTokenizerFast, rng: random.Random
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of at most BATCH_TOKENS, padding included. Conversations of like length share a batch."""
    while True:
        pool = sorted((encode(converse(), tokenizer) for _ in range(512)), key=lambda encoded: len(encoded[0]))
        groups: list[list[Encoded]] = [[]]
        for encoded in pool:
            if len(encoded[0]) * (len(groups[-1]) + 1) > BATCH_TOKENS:
                groups.append([])
            groups[-1].append(encoded)
        rng.shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            yield (
                torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in group]),
                torch.tensor([weights + [0.0] * (width - len(weights)) for _, weights in group]),
            )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """256 wide, 4 deep, heads of 64: 3.5 million parameters."""
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
    """Logits, targets and weights of the tokens that count, and where in `ids` these are.

    Padding is on the right, where causal attention never looks: no mask is needed.
    """
    counted = weights[:, 1:] > 0  # the output layer costs most: only where something is learned
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.lm_head(model.model(input_ids=ids).last_hidden_state[:, :-1][counted])
    row, column = counted.nonzero(as_tuple=True)
    return logits.float(), ids[:, 1:][counted], weights[:, 1:][counted], row, column + 1


def loss(model: LlamaForCausalLM, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy."""
    logits, targets, weights, *_ = predict(model, ids, weights)
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def train(
    model: LlamaForCausalLM, stream: Iterator[tuple[torch.Tensor, ...]], steps: int, objective=loss, pace: float = 1.0
) -> None:
    """Muon for the matrices inside (Jordan 2024), AdamW for the rest; warm up, hold, then straight down to nothing.

    `pace` scales the learning rates: less than 1 to go on from weights that know something already.
    """
    inside = {name for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name}
    optimizers = [
        torch.optim.Muon(
            [p for name, p in model.named_parameters() if name in inside], lr=0.02 * pace, weight_decay=0.05
        ),
        torch.optim.AdamW(
            [p for name, p in model.named_parameters() if name not in inside],
            lr=0.003 * pace,
            betas=(0.9, 0.98),
            weight_decay=0,
        ),
    ]
    warm = min(50, steps // 8 + 1)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / warm, (steps - step) / (0.7 * steps), 1.0)
        )
        for optimizer in optimizers
    ]
    model.train()
    began, losses = time.process_time(), []
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
            spent = time.process_time() - began
            print(f"step {step}/{steps}  loss {np.mean(losses[-100:]):.3f}  {spent:.0f} CPU-s", flush=True)
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """A folder that vLLM and transformers load: weights in bfloat16, tokenizer, chat template, how to stop."""
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=0.7
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
