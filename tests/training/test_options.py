"""The switches of a run do what they say: accumulation, precision, compilation, several processes."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.build import USER_CONFIG
from framework.noise import BatchKey
from framework.objectives.distances import MSE
from framework.objectives.objective import Objective
from framework.objectives.times import LogitNormal, Stratified
from framework.objectives.weightings import Constant
from framework.schedules import Flow
from framework.store import load
from framework.training.checkpoints import latest
from framework.training.optimizer import AdamW
from framework.training.run import RunExistsError, train
from tests.toy import PointSet, point_config, point_model

ALLOW = USER_CONFIG.plus("tests")
ROOT = Path(__file__).parents[2]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(latest(run), weights_only=True)["state_dict"]


def test_training_learns_the_two_clouds(tmp_path: Path) -> None:
    """After 600 steps the samples of each class have its mean and spread, and the loss has fallen."""
    config = point_config(tmp_path, trainer__max_steps=600, checkpoint__every_n_steps=600, data__size=2048)
    config["data"]["batch_size"] = 64
    config["backbone"]["dropout"] = 0.0
    train(config, ALLOW)
    model, items = load(tmp_path, allow=ALLOW), PointSet(2048)
    for label in (0, 1):
        got, real = model.sample(label, 400, steps=20).samples, items.points[items.labels == label]
        torch.testing.assert_close(got.mean(0), real.mean(0), rtol=0, atol=0.1)
        torch.testing.assert_close(got.std(0), real.std(0), rtol=0, atol=0.1)


def test_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    """Two batches of 8 accumulated see the items of one batch of 16 and make half as many steps."""
    one = point_config(tmp_path / "one", data__batch_size=8, trainer__accumulate_grad_batches=2, trainer__max_steps=5)
    train(one, ALLOW)
    counts = torch.load(latest(tmp_path / "one"), weights_only=True)["counts"]
    assert counts["batches_seen"] == 10 and counts["samples_seen"] == 80


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precision(tmp_path: Path, precision: str) -> None:
    train(point_config(tmp_path, trainer__precision=precision), ALLOW)
    dtype = torch.float64 if precision == "64-true" else torch.float32
    assert weights(tmp_path)["network.first.weight"].dtype == dtype
    assert bool(torch.isfinite(load(tmp_path, allow=ALLOW).sample(0, 4).samples).all())


@pytest.mark.slow
def test_compiled_training_is_the_same_training(tmp_path: Path) -> None:
    for name, compiled in (("plain", False), ("compiled", True)):
        config = point_config(tmp_path / name, compile=compiled)
        config["backbone"]["dropout"] = 0.0
        train(config, ALLOW)
    plain, fast = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert plain.keys() == fast.keys()
    for name in plain:
        torch.testing.assert_close(plain[name], fast[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_processes_share_one_run(tmp_path: Path) -> None:
    """DDP on the CPU: each process takes its part of a batch of twice the size, and the run is one folder.

    The 17th item of validation is alone in its batch: processes with fewer items must not leave the others waiting.
    """
    program = (
        "from pathlib import Path; from framework.build import USER_CONFIG; from framework.training.run import train; "
        "from tests.toy import point_config; import sys; "
        "train(point_config(Path(sys.argv[1]), trainer__devices=2, trainer__strategy='ddp', data__validation_size=17), "
        "USER_CONFIG.plus('tests'))"
    )
    script = tmp_path / "run.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\nif __name__ == '__main__':\n    {program}\n")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts = torch.load(latest(tmp_path / "run"), weights_only=True)["counts"]
    assert counts["samples_seen"] == 20 * 16
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))


def test_the_order_of_data_covers_every_item_once_an_epoch() -> None:
    """Whatever the batch size and the number of processes."""
    from framework.training.loader import ShardedBatches, StreamBatches

    stream = iter(StreamBatches(10, 4, seed=0))
    seen = [index for _ in range(5) for index in next(stream)]
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10)) and seen[:10] != seen[10:20]
    late = StreamBatches(10, 4, seed=0)
    late.start = 12
    assert next(iter(late)) == seen[12:16]
    assert [index for batch in ShardedBatches(10, 4) for index in batch] == list(range(10))


@pytest.mark.parametrize("size", [1, 5, 11, 12, 13])
def test_processes_validate_every_item_in_equally_many_batches(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from framework.training import loader

    parts = []
    for rank in range(3):
        monkeypatch.setattr(loader, "process_rank", lambda rank=rank: (rank, 3))
        batches = loader.ShardedBatches(size, 2)
        parts.append(list(batches))
        assert len(parts[-1]) == len(batches) and all(0 < len(batch) <= 2 for batch in parts[-1])
    assert {index for part in parts for batch in part for index in batch} == set(range(size))


def test_processes_share_each_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from framework.training import loader

    stream = iter(loader.StreamBatches(10, 6, seed=0))
    whole = [next(stream) for _ in range(4)]
    parts = []
    for rank in range(3):
        monkeypatch.setattr(loader, "process_rank", lambda rank=rank: (rank, 3))
        stream = iter(loader.StreamBatches(10, 2, seed=0))
        parts.append([next(stream) for _ in range(4)])
        assert len(loader.ShardedBatches(10, 2)) == 2
    for step in range(4):
        assert whole[step] == [index for part in parts for index in part[step]]


def test_an_empty_training_set_is_refused() -> None:
    from framework.training.loader import StreamBatches

    with pytest.raises(ValueError, match="training set is empty"):
        StreamBatches(0, 4, seed=0)


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    train(point_config(tmp_path, trainer__max_steps=5), ALLOW)
    before = weights(tmp_path)
    with pytest.raises(RunExistsError, match="already holds a run: go on with it"):
        train(point_config(tmp_path, seed=1), ALLOW)
    assert all(torch.equal(before[name], weight) for name, weight in weights(tmp_path).items())


def test_a_finished_run_can_be_resumed_and_is_not_changed(tmp_path: Path) -> None:
    train(point_config(tmp_path), ALLOW)
    before = weights(tmp_path)
    train(point_config(tmp_path, resume=str(tmp_path)), ALLOW)
    assert all(torch.equal(before[name], weight) for name, weight in weights(tmp_path).items())


def test_learning_rate_warms_up_and_falls() -> None:
    settings = AdamW(warmup_steps=10, final=0.1)
    factors = [settings.factor(step, 110) for step in range(111)]
    assert factors[0] == 0.1 and factors[9] == factors[10] == 1.0
    assert factors[60] == pytest.approx(0.55) and factors[110] == pytest.approx(0.1)
    assert AdamW(warmup_steps=10).factor(10**6, -1) == 1.0
    with pytest.raises(ValueError, match="give a number of steps"):
        settings.factor(50, -1)


def test_a_run_can_go_on_with_another_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is saved is a place in the stream of items, so nothing is skipped or seen again."""
    from framework.training import loader

    items = PointSet(50)
    one = loader.ResumableLoader(items, batch_size=4, seed=0, shuffle=True)
    for _ in range(6):
        one.consume()
    monkeypatch.setattr(loader, "process_rank", lambda: (1, 2))
    two = loader.ResumableLoader(items, batch_size=4, seed=0, shuffle=True)
    two.load_state_dict(one.state_dict())
    stream = [int(i) for i in loader.permutation(50, 0, 0)]
    assert next(iter(two.batches)) == stream[28:32]
    two.consume()
    assert two.state_dict() == {"items": 32}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_by_value(tmp_path: Path, precision: str) -> None:
    config = point_config(tmp_path, trainer__gradient_clip_algorithm="value", trainer__precision=precision)
    train(config, ALLOW)
    assert bool(torch.isfinite(weights(tmp_path)["network.first.weight"]).all())


def test_an_average_in_half_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never moves; use bf16-mixed"):
        train(point_config(tmp_path, trainer__precision="bf16-true"), ALLOW)


def test_validation_reports_the_error_at_the_levels_that_it_names(tmp_path: Path) -> None:
    """Also where training spreads its times over the batch: quantile q of the sampler is the time that is validated."""
    times = Stratified(LogitNormal())
    u = torch.tensor([0.0625, 0.5, 0.9375], dtype=torch.float64)
    torch.testing.assert_close(times.quantile(u, Flow()), LogitNormal().quantile(u, Flow()))
    model = point_model()
    objective = Objective(times, Constant(), MSE())
    x_0, condition = model.modality.encode({"point": torch.zeros(3, 2), "label": torch.zeros(3, dtype=torch.int64)})
    terms = objective(model.denoiser(), x_0, condition, BatchKey(0, 0, 0, 3), uniforms=u)
    torch.testing.assert_close(terms.times, torch.special.ndtri(u).sigmoid())
