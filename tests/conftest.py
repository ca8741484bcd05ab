"""What several tests need: a text model of random weights, and Hydra as new in every test."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def hydra_forgets() -> Iterator[None]:
    """A command that ran in this process leaves its job behind, of which the next test would take the overrides."""
    yield
    if "hydra.core.hydra_config" in sys.modules:
        sys.modules["hydra.core.hydra_config"].HydraConfig.instance().cfg = None


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP text model of two layers with random weights and a tokenizer of single letters."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary), hidden_size=16, intermediate_size=32,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=20,
        bos_token_id=52, eos_token_id=53, pad_token_id=53, attention_dropout=0.5,
    )  # fmt: skip
    transformers.CLIPTextModel(config).save_pretrained(folder)
    return str(folder)
