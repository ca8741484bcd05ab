"""Text: hashed words, the small encoder, and a pretrained one from a folder, all without the network."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from framework.backbones.text import PretrainedText, TextEncoder, TextModel, Tokenizer, WordTokenizer
from modalities.images.scenes import VOCABULARY

CAPTIONS = ["", "a small red circle", "a large blue square left of a green triangle, on a white background!"]


def perturb(module: nn.Module, seed: int = 0) -> None:
    """Away from the zero initialisation, where half of the network is silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))


@pytest.mark.parametrize("buckets", [1024, 2048, 4096])
def test_words_of_shapes_have_distinct_buckets(buckets: int) -> None:
    tokenizer = WordTokenizer(buckets)
    tokens = {tokenizer.bucket(word) for word in VOCABULARY}
    assert len(tokens) == len(set(VOCABULARY))
    assert all(2 <= token < buckets for token in tokens)


def test_empty_text_is_the_begin_token_alone() -> None:
    tokens, mask = WordTokenizer().tokenize(["", "red"])
    assert tokens[0].tolist() == [1] + 23 * [0]
    assert mask.sum(1).tolist() == [1, 2]
    assert torch.equal(mask, tokens != 0)


def test_case_and_spaces_do_not_matter_but_order_and_punctuation_do() -> None:
    tokens, _ = WordTokenizer().tokenize(["A red  circle", "a RED circle", "circle a red", "a red circle."])
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])
    assert not torch.equal(tokens[0], tokens[3])


def test_long_texts_lose_their_end() -> None:
    tokens, mask = WordTokenizer(length=4).tokenize(["one two three four five", "one two three"])
    assert tokens.shape == (2, 4) and mask.all()
    assert torch.equal(tokens[0], tokens[1])


def test_hash_is_the_same_in_every_process() -> None:
    """Python's own hash() is salted in each process: a model trained in one would be deaf in the next."""
    code = (
        "from framework.backbones.text import WordTokenizer\n"
        "print(WordTokenizer().tokenize(['a red circle'])[0].tolist())"
    )
    out = []
    for salt in ("1", "2"):
        environment = {"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        out.append(run.stdout)
    assert json.loads(out[0]) == json.loads(out[1]) == WordTokenizer().tokenize(["a red circle"])[0].tolist()


@pytest.mark.parametrize("bad", [{"buckets": 2}, {"length": 0}])
def test_impossible_tokenizers_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="leaves no"):
        WordTokenizer(**bad)


def test_encoder_has_the_roles() -> None:
    encoder = TextEncoder(width=16, layers=1)
    assert isinstance(encoder, TextModel) and isinstance(encoder, Tokenizer)
    features = encoder(*encoder.tokenize(CAPTIONS))
    assert features.sequence.shape == (3, 24, 16) and features.pooled.shape == (3, 16)


def test_padding_never_matters() -> None:
    encoder = TextEncoder(width=16, layers=2)
    perturb(encoder)
    tokens, mask = encoder.tokenize(CAPTIONS)
    other = torch.where(mask, tokens, 77)
    a, b = encoder(tokens, mask), encoder(other, mask)
    assert torch.equal(a.pooled, b.pooled)
    assert torch.equal(a.sequence[mask], b.sequence[mask])
    short = encoder(tokens[1:2, :5], mask[1:2, :5])
    torch.testing.assert_close(short.pooled, a.pooled[1:2], atol=1e-5, rtol=0)


def test_word_order_reaches_the_pooled_features() -> None:
    encoder = TextEncoder(width=16, layers=2)
    perturb(encoder)
    pooled = encoder(*encoder.tokenize(["red circle left of blue square", "blue square left of red circle"])).pooled
    assert (pooled[0] - pooled[1]).abs().max() > 1e-3


def test_gradients_reach_every_parameter_of_the_encoder() -> None:
    encoder = TextEncoder(width=16, layers=2)
    perturb(encoder)
    features = encoder(*encoder.tokenize(CAPTIONS))
    (features.sequence.square().sum() + features.pooled.square().sum()).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_too_many_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="length=8"):
        TextEncoder(width=16, layers=1, length=8)(
            torch.ones(1, 9, dtype=torch.int64), torch.ones(1, 9, dtype=torch.bool)
        )


def test_pretrained_clip_takes_the_place_of_the_encoder(clip_folder: str) -> None:
    text = PretrainedText(clip_folder, kind="clip", length=12)
    tokens, mask = text.tokenize(["", "red", "a red circle and much more"])
    assert tokens.shape == (3, 12) and mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [2, 5, 12]
    features = text(tokens, mask)
    assert text.width == 16 and features.sequence.shape == (3, 12, 16) and features.pooled.shape == (3, 16)
    assert (features.pooled[0] - features.pooled[1]).abs().max() > 1e-3
    alone = text(tokens[1:2, :5], mask[1:2, :5])
    torch.testing.assert_close(alone.pooled, features.pooled[1:2], atol=1e-5, rtol=1e-5)


def test_pretrained_is_frozen_and_stays_in_eval_mode(clip_folder: str) -> None:
    model = nn.ModuleDict({"text": PretrainedText(clip_folder, length=12)})
    model.train()
    tokens = model["text"].tokenize(["red", "blue"])
    assert torch.equal(model["text"](*tokens).pooled, model["text"](*tokens).pooled), "dropout is on"
    assert not any(p.requires_grad for p in model.parameters())
    assert not model["text"](*tokens).pooled.requires_grad


def test_pretrained_weights_are_kept_out_of_the_state_unless_asked(clip_folder: str) -> None:
    def model(keep: bool) -> nn.Module:
        return nn.ModuleDict(
            {"text": PretrainedText(clip_folder, length=12, keep_weights=keep), "own": nn.Linear(2, 2)}
        )

    lean, full = model(False), model(True)
    assert list(lean.state_dict()) == ["own.weight", "own.bias"]
    assert len(full.state_dict()) > 20
    lean.load_state_dict(lean.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        lean.load_state_dict({"own.weight": torch.zeros(2, 2)})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        lean.load_state_dict({**lean.state_dict(), "other": torch.zeros(1)})


def test_missing_folder_says_what_to_supply(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"Give the path of a folder with config\.json"):
        PretrainedText(str(tmp_path / "nowhere"))


def test_missing_transformers_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    actual = builtins.__import__

    def without_transformers(name: str, *args: object, **kwargs: object) -> object:
        if name == "transformers":
            raise ImportError(name)
        return actual(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_transformers)
    with pytest.raises(ImportError, match=r"diffract\[text\]"):
        PretrainedText("anything")


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="clip and t5"):
        PretrainedText("anything", kind="bert")


def test_transformers_is_not_imported_with_the_module() -> None:
    code = "import sys, framework.backbones.text; sys.exit('transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=True)
