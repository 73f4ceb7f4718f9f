"""Presets: base models by a short name, with the settings that differ from the defaults.

A recipe says `student: {preset: roberta-base}`; what it sets itself counts. The preset is replaced by its settings when the recipe is
read, so a run's own copy and a published recipe hold the settings. Revisions are not pinned here: add `revision`.

Learning rates lie within the ranges that the models' authors searched for fine-tuning; they were not tuned here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Presets = Mapping[str, Mapping[str, Any]]
"""Name -> settings."""

ENCODERS: Presets = {
    "minilm": {"model": "sentence-transformers/all-MiniLM-L6-v2"},
    "distilbert-base": {"model": "distilbert/distilbert-base-uncased", "learning_rate": 5e-5},
    "roberta-base": {"model": "FacebookAI/roberta-base", "learning_rate": 3e-5},
    # Half precision overflows in its attention; its vocabulary is a SentencePiece file
    "deberta-v3-small": {"model": "microsoft/deberta-v3-small", "learning_rate": 5e-5, "precision": "float32"},
    "deberta-v3-base": {"model": "microsoft/deberta-v3-base", "learning_rate": 2e-5, "precision": "float32"},
    "modernbert-base": {"model": "answerdotai/ModernBERT-base", "learning_rate": 5e-5},
    "modernbert-large": {"model": "answerdotai/ModernBERT-large", "learning_rate": 3e-5},
    "ettin-17m": {"model": "jhu-clsp/ettin-encoder-17m", "learning_rate": 1e-4},
    "ettin-32m": {"model": "jhu-clsp/ettin-encoder-32m", "learning_rate": 1e-4},
    "ettin-68m": {"model": "jhu-clsp/ettin-encoder-68m", "learning_rate": 8e-5},
    "ettin-150m": {"model": "jhu-clsp/ettin-encoder-150m", "learning_rate": 5e-5},
    "ettin-400m": {"model": "jhu-clsp/ettin-encoder-400m", "learning_rate": 3e-5},
    # Vocabularies of a quarter of a million tokens: most of a small model's parameters
    "mmbert-small": {"model": "jhu-clsp/mmBERT-small", "learning_rate": 8e-5},
    "mmbert-base": {"model": "jhu-clsp/mmBERT-base", "learning_rate": 5e-5},
    "xlm-roberta-base": {"model": "FacebookAI/xlm-roberta-base", "learning_rate": 2e-5},
}

SENTENCE_ENCODERS: Presets = {
    "minilm": {"model": "sentence-transformers/all-MiniLM-L6-v2"},
    "multilingual-minilm": {"model": "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"},
}

STATIC_MODELS: Presets = {
    "potion-base-2m": {"model": "minishlab/potion-base-2M"},
    "potion-base-8m": {"model": "minishlab/potion-base-8M"},
    "potion-base-32m": {"model": "minishlab/potion-base-32M"},
    "potion-multilingual-128m": {"model": "minishlab/potion-multilingual-128M"},
}

GLICLASS_MODELS: Presets = {
    "gliclass-edge": {"model": "knowledgator/gliclass-edge-v3.0"},
    "gliclass-small": {"model": "knowledgator/gliclass-small-v1.0"},
    "gliclass-base": {"model": "knowledgator/gliclass-base-v3.0"},
    "gliclass-modern-base": {"model": "knowledgator/gliclass-modern-base-v3.0"},
}

DECODERS: Presets = {
    "smollm2-135m": {"model": "HuggingFaceTB/SmolLM2-135M"},
    "qwen2.5-0.5b": {"model": "Qwen/Qwen2.5-0.5B"},
    "qwen3-0.6b": {"model": "Qwen/Qwen3-0.6B-Base"},
}

PRESETS: Mapping[str, Presets] = {
    "transformer": ENCODERS,
    "reweighted": ENCODERS,
    "contrastive": SENTENCE_ENCODERS,
    "frozen": SENTENCE_ENCODERS,
    "static": STATIC_MODELS,
    "gliclass": GLICLASS_MODELS,
    "lora": DECODERS,
}
"""Kind of student -> its presets."""
