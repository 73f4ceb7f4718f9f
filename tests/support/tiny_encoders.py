"""Pretrained models for students: tiny encoders of random weights whose tokenizer knows the words of `student_data`."""

from __future__ import annotations

from pathlib import Path

from tests.support.student_data import texts

SMALL = {"vocab_size": 160, "pad_token_id": 0, "initializer_range": 0.1}  # too small to learn from the usual 0.02
BERT = {
    **SMALL,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
ARCHITECTURES = {
    "bert": BERT,
    "distilbert": {
        **SMALL,
        "dim": 32,
        "n_layers": 1,
        "n_heads": 2,
        "hidden_dim": 64,
        "max_position_embeddings": 64,
        "dropout": 0.0,
    },
    "roberta": BERT,
    "deberta-v2": {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    "xlm-roberta": BERT,
    "modernbert": {**BERT, "local_attention": 16, "cls_token_id": 2, "sep_token_id": 3},
}

DECODERS = {
    "qwen2": {
        **SMALL,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
    },
}

QUICK = {"learning_rate": 1e-2, "head_learning_rate": None, "min_steps": 40, "epochs": 1, "precision": "float32"}
"""Settings of a transformer student that learns the examples in a second or two."""


def make_tokenizer(**settings):
    """All words of the examples, and letters for other words. Not trained, because a trainer breaks ties at random."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = sorted({word.lower() for example in texts(75) for word in example.text.split()} - set(letters))
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *words]
    tokenizer = Tokenizer(models.WordPiece({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", **settings}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_base(folder: Path, kind="bert", tokenizer=None, **settings):
    import torch
    from transformers import AutoConfig, AutoModel

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = AutoModel.from_config(
            AutoConfig.for_model(kind, **{**(ARCHITECTURES | DECODERS).get(kind, {}), **settings})
        )
    model.save_pretrained(folder)
    (tokenizer or make_tokenizer()).save_pretrained(folder)
    return folder


def make_static(folder: Path, encoder: Path, **options) -> Path:
    """What model2vec's own distillation makes of an encoder."""
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(encoder)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    distill_from_model(model, tokenizer, pca_dims=24, device="cpu", **options).save_pretrained(folder)
    return folder


def make_gliclass(folder: Path, kind="deberta-v2", tokenizer=None, **settings) -> Path:
    """A tiny GLiClass model of random weights, made and saved by its own library. `settings` are those of its configuration."""
    from transformers import AutoConfig

    from evokd_data.students.deterministic import deterministic
    from evokd_data.students.gliclass_model import CONTROLS, import_library

    tokenizer = tokenizer or make_tokenizer()
    tokenizer.add_tokens(list(CONTROLS), special_tokens=True)
    label, text, example = (tokenizer.convert_tokens_to_ids(token) for token in CONTROLS)
    defaults = {
        "class_token_index": label,
        "text_token_index": text,
        "example_token_index": example,
        "prompt_first": True,
        "initializer_range": 0.3,  # random weights tell texts and names apart, and float32 still holds the logits
    }
    with deterministic(0):
        library = import_library()
        encoder = AutoConfig.for_model(kind, **{**ARCHITECTURES[kind], "vocab_size": len(tokenizer)})
        config = library.GLiClassModelConfig(encoder, encoder_model="org/encoder", **{**defaults, **settings})
        library.GLiClassModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
