"""A Llama of about a million random weights and a byte-level tokenizer with a chat template, written in a second."""

from __future__ import annotations

from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]
CORPUS = [
    "play some jazz by Miles Davis on spotify",
    "book a table for four at an italian restaurant tonight",
    "will it rain in Berlin tomorrow morning",
    '{"texts": ["add this song to my playlist", "what is the weather"]}',
    "PlayMusic BookRestaurant GetWeather AddToPlaylist A B C D E F G H",
]


def build(
    folder: Path, template: str = TEMPLATE, max_length: int = 1024, seed: int = 0, ends: bool = True, layers: int = 2
) -> Path:
    """The folder, holding config, weights and tokenizer. The vocabulary has 384 entries, every byte among them.

    Without `ends` there is no end token: every answer is as long as it may be.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=384,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    end = {"eos_token": "<|end|>"} if ends else {}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", **end)
    fast.chat_template = template
    fast.model_max_length = max_length
    fast.save_pretrained(folder)

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_length,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        # Weights of the usual size give nearly uniform answers; larger ones make the choices differ visibly.
        initializer_range=0.08,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
