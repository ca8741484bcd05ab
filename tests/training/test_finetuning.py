"""Training that begins with a trained model: all of it, or low-rank products beside its layers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from framework.adapters import CONFIG, WEIGHTS, AdapterError, LoRA, adapt, adapted, merged, save_adapter, without
from framework.build import USER_CONFIG
from framework.errors import UserError
from framework.store import load
from framework.training.run import train
from tests.toy import PointNet, point_config, point_model

pytest.importorskip("peft")
ALLOW = USER_CONFIG.plus("tests")
TUNE = {"_target_": "framework.adapters.LoRA", "rank": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("base")
    train(point_config(run), ALLOW)
    return run


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("tuned")
    train(point_config(run, init=str(base), tune=TUNE), ALLOW)
    return run


def test_full_fine_tuning_begins_where_the_base_ended(base: Path, tmp_path: Path) -> None:
    train(point_config(tmp_path, init=str(base), optimizer__lr=0.0, trainer__max_steps=2), ALLOW)
    before, after = load(base, allow=ALLOW), load(tmp_path, allow=ALLOW)
    assert all(torch.equal(a, b) for a, b in zip(before.network.parameters(), after.network.parameters(), strict=True))


def test_other_parts_than_the_base_are_refused(base: Path, tmp_path: Path) -> None:
    config = point_config(tmp_path, init=str(base), schedule={"_target_": "framework.schedules.LinearVP"})
    with pytest.raises(UserError, match=r"would change the model's schedule.*was framework\.schedules"):
        train(config, ALLOW)


def test_an_adapter_begins_as_the_base_and_trains_nothing_else() -> None:
    model = point_model()
    x, level = torch.randn(4, 2), torch.rand(4)
    condition = model.condition([0, 1, 0, 1])
    before = model.network.eval()(x, level, condition)
    network = adapt(model.network, LoRA(rank=2)).eval()
    assert torch.equal(network(x, level, condition), before)
    trained = [name for name, p in network.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in name for name in trained)


def test_merged_is_the_same_function_and_taken_off_the_base_to_the_bit(base: Path, tuned: Path) -> None:
    first = load(base, allow=ALLOW)
    model = adapted(first, tuned)
    x, level = torch.randn(16, 2).double(), torch.rand(16).double()
    condition = model.condition([0, 1] * 8)
    with torch.no_grad():
        unmerged = model.network.double()(x, level, condition)
        torch.testing.assert_close(merged(model.network)(x, level, condition), unmerged, rtol=1e-12, atol=1e-12)
        assert not torch.allclose(first.network.double()(x, level, condition), unmerged, atol=1e-4)
    off = without(adapted(load(base, allow=ALLOW), tuned).network).state_dict()
    own = load(base, allow=ALLOW).network.state_dict()
    assert off.keys() == own.keys() and all(torch.equal(off[name], own[name]) for name in own)


def test_the_run_holds_the_merged_model_and_the_adapter_alone(base: Path, tuned: Path) -> None:
    whole = load(tuned, allow=ALLOW).sample([0, 1], 4).samples
    torch.testing.assert_close(adapted(load(base, allow=ALLOW), tuned).sample([0, 1], 4).samples, whole)
    assert all("lora_" in name for name in load_file(tuned / "adapter" / WEIGHTS))
    assert json.loads((tuned / "adapter" / CONFIG).read_text())["base_model_name_or_path"] == str(base)


def test_scale_turns_it_down_to_the_base(base: Path, tuned: Path) -> None:
    first = load(base, allow=ALLOW)
    plain, half, whole = (
        model.sample(0, 8).samples for model in (first, adapted(first, tuned, 0.5), adapted(first, tuned))
    )
    assert torch.equal(adapted(first, tuned, 0.0).sample(0, 8).samples, plain)
    assert 0 < float((half - plain).norm()) < float((whole - plain).norm())


def test_peft_itself_opens_it(base: Path, tuned: Path) -> None:
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = PeftModel.from_pretrained(load(base, allow=ALLOW).network, tuned / "adapter").eval()
    ours = adapted(load(base, allow=ALLOW), tuned)
    x, level, condition = torch.randn(4, 2), torch.rand(4), ours.condition([0, 1, 0, 1])
    with torch.no_grad():
        torch.testing.assert_close(theirs(x, level, condition), ours.network(x, level, condition))


def test_another_base_is_told(tuned: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="other weights"):
        adapted(point_model(), tuned)
    wide = point_model()
    wide.network = PointNet(width=8)
    with pytest.raises(AdapterError, match="another network"):
        adapted(wide, tuned)
    with pytest.raises(AdapterError, match="holds no adapter"):
        adapted(point_model(), tmp_path)
    save_adapter(adapt(PointNet(), LoRA()), tmp_path, "a card")
    (tmp_path / WEIGHTS).write_bytes(b"torn")
    with pytest.raises(AdapterError, match="no adapter that can be read"):
        adapted(point_model(), tmp_path)


def test_a_resumed_adapter_is_the_uninterrupted_one(base: Path, tuned: Path, tmp_path: Path) -> None:
    train(point_config(tmp_path, init=str(base), tune=TUNE, checkpoint__every_n_steps=5, checkpoint__keep=9), ALLOW)
    for newer in (tmp_path / "checkpoints").glob("step-*.ckpt*"):
        if int(newer.name[5:13]) > 5:
            newer.unlink()
    train(point_config(tmp_path, init=str(base), tune=TUNE, resume=str(tmp_path)), ALLOW)
    ours, theirs = (load_file(run / "adapter" / WEIGHTS) for run in (tmp_path, tuned))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": -1.0}, {"dropout": 1.0}, {"only": "("}])
def test_settings_that_mean_nothing(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        LoRA(**wrong)


def test_layers_are_chosen_by_name() -> None:
    assert LoRA(only="first").layers(PointNet()) == ["first"]
    with pytest.raises(AdapterError, match=r"which are first, rest\.2"):
        LoRA(only="attention").layers(PointNet())
