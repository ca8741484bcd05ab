"""Audio as a plugin: lengths, prompts, regions and edits, and all of it from one command to a WAV file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tensordict import TensorDict
from torch import Tensor

from experiments import evaluate, sample, train
from experiments.configuration import allowed, compose, plain
from framework.backbones.text import WordTokenizer
from framework.build import check
from framework.conditions import Fields, TextCondition, Unconditional
from framework.errors import PromptError, UserError
from framework.metrics.measurement import read_metrics
from framework.noise import SampleKey
from framework.plugins import load_modality
from modalities.audio.codecs.log_mel import LogMel
from modalities.audio.codecs.mdct import MDCT
from modalities.audio.files import write_audio
from modalities.audio.modality import Audio, Timed
from modalities.audio.notes import Notes
from modalities.audio.notes_condition import Notation
from modalities.audio.unet import SpectrogramUNet

PRESETS = ["audio/fsdd", "audio/notes", "audio/folder"]
FIELDS = Fields({"digit": ["0", "1", "2"], "speaker": ["ann", "bob"]})


def audio(condition: Any = FIELDS, codec: Any = None, seconds: float = 1.024) -> Audio:
    return Audio(condition, codec or LogMel(), seconds, [0.3, 0.5, 0.9])


def batch(*lengths: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    waveform = 0.2 * torch.randn(len(lengths), max(lengths), generator=generator)
    for row, length in zip(waveform, lengths, strict=True):
        row[length:] = 0
    labels = torch.tensor([[1, 0]] * len(lengths))
    return {"waveform": waveform, "length": torch.tensor(lengths), "caption": [""] * len(lengths), "labels": labels}


def test_audio_is_found_as_a_plugin() -> None:
    assert load_modality("audio") is Audio


def test_an_exact_codec_gives_back_clips_of_all_lengths() -> None:
    modality, given = audio(codec=MDCT()), batch(8192, 3000, 127)
    state, condition = modality.encode(given)
    assert state.shape == (3, 64, 1, 128) and condition["mask"].sum(1).tolist() == [64, 24, 1]
    clips = modality.decode(state, condition)
    assert clips.lengths.tolist() == [8192, 3000, 127]
    torch.testing.assert_close(clips.samples, given["waveform"], atol=1e-5, rtol=0)


def test_padding_is_zero_and_a_frames_noise_does_not_depend_on_it() -> None:
    modality = audio()
    state, condition = modality.encode(batch(8192, 3000))
    assert state[1, 24:].abs().max() == 0 and state[1, :24].abs().max() > 0
    noise = modality.space.noise(SampleKey(0, (0, 1)), condition)
    longer = TensorDict({"mask": torch.nn.functional.pad(condition["mask"], (0, 40))}, batch_size=[2])
    torch.testing.assert_close(modality.space.noise(SampleKey(0, (0, 1)), longer)[:, :64], noise)
    assert modality.space.degrees_of_freedom(condition).tolist() == [64 * 64, 24 * 64]


def test_a_prompt_may_say_how_long() -> None:
    modality = audio()
    said = modality.parse([{"digit": "2", "seconds": 0.5}, "digit=1 speaker=bob seconds=0.256", ""])
    assert said["samples"].tolist() == [4000, 2048, 8192]
    assert said["digit"].tolist() == [2, 1, 3] and said["speaker"].tolist() == [2, 1, 2]
    words = audio(TextCondition(WordTokenizer(64, 8)))
    plain_words, timed = words.parse(["a note"]), words.parse(["a note, seconds=0.5"])
    assert timed["samples"].tolist() == [4000]
    assert torch.equal(plain_words["tokens"], words.parse(["a note"])["tokens"])
    with pytest.raises(PromptError, match="did you mean 'speaker'"):
        modality.parse(["speeker=bob"])
    with pytest.raises(PromptError, match="lasts more than 0"):
        modality.parse(["digit=1 seconds=0"])


def test_what_is_left_open_is_drawn_from_the_data_by_the_samples_index() -> None:
    modality = audio()
    drawn = modality.complete(["digit=1"] * 400, 0, range(400))
    seconds = np.array([timed.seconds for timed in drawn])
    assert seconds.min() >= 0.3 and seconds.max() <= 0.9 and 0.4 < (seconds < 0.5).mean() < 0.6
    assert modality.complete(["digit=1"] * 2, 0, [7, 9]) == [drawn[7], drawn[9]]
    assert modality.complete([{"digit": "1", "seconds": 0.7}], 0, [3]) == [Timed({"digit": "1"}, 0.7)]


def test_what_lasts_longer_is_drawn_longer() -> None:
    modality = Audio(FIELDS, LogMel(), 1.024, [0.3, 0.9], durations_of={"1,0": [0.5, 0.6]})
    seconds = [timed.seconds for timed in modality.complete(["digit=1 speaker=ann"] * 50, 0, range(50))]
    assert min(seconds) >= 0.5 and max(seconds) <= 0.6 and max(seconds) - min(seconds) > 0.05
    assert max(timed.seconds for timed in modality.complete(["digit=1"] * 50, 0, range(50))) > 0.7


def test_null_says_nothing_and_is_as_long() -> None:
    modality = audio()
    condition = modality.parse([{"digit": "2", "speaker": "ann", "seconds": 0.5}])
    null = modality.null(condition)
    assert (null["digit"].item(), null["speaker"].item()) == (3, 2)
    assert torch.equal(null["mask"], condition["mask"]) and torch.equal(null["samples"], condition["samples"])


def test_regions_in_words() -> None:
    modality = audio()
    state, condition = modality.encode(batch(8192, 4096))
    time = modality.region("time=0.256-0.512", state, condition)
    assert time[0].flatten().nonzero().numel() == 16 * 64 and bool(time[0, 16:32].all())
    low = modality.region("below=1000", state, condition)
    frequencies = modality.codec.frequencies
    assert torch.equal(low[0, 0, 0], frequencies < 1000) and not bool(low[1, 32:].any())
    both = modality.region("time=0-0.1, above=500", state, condition)
    assert torch.equal(both[0, 2, 0], frequencies > 500) and not bool(both[0, 10:].any())
    assert bool((modality.region("", state, condition)[..., 0] == condition["mask"][..., None]).all())
    with pytest.raises(UserError, match="unknown region 'pitch=3'"):
        modality.region("pitch=3", state, condition)
    with pytest.raises(UserError, match="nothing lies in the region"):
        modality.region("time=2-3", state, condition)


def test_files_are_read_as_the_data_were(tmp_path: Path) -> None:
    clip = 0.1 * torch.sin(2 * torch.pi * 440 * torch.arange(16000) / 16000) + 0.05
    write_audio(tmp_path / "a.wav", clip[:8000], 16000, {})
    modality = Audio(FIELDS, LogMel(), 1.024, [1.0], level="peak", target_db=-1.0)
    _, condition = modality.encode(modality.read(tmp_path / "a.wav"))
    assert condition["samples"].tolist() == [4000] and condition["digit"].tolist() == [3]
    read = modality.read(tmp_path / "a.wav")["waveform"]
    assert float(read.abs().max()) == pytest.approx(10 ** (-1 / 20), abs=1e-3) and abs(float(read.mean())) < 1e-3


def test_data_fill_in_what_only_they_know() -> None:
    clips = SimpleNamespace(waveforms=audio().decode(*audio().encode(batch(8192, 5000))))
    data = SimpleNamespace(
        rate=8000,
        seconds=1.024,
        lengths=torch.tensor([4000, 8192]),
        labels=torch.tensor([[0], [1]]),
        heads={"digit": ("0", "1")},
        training_reference=lambda n, seed: clips,
    )
    config: dict[str, Any] = {
        "modality": {
            "codec": {"_target_": "modalities.audio.codecs.log_mel.LogMel", "rate": None, "mean": None, "std": None},
            "condition": {"fields": None},
        },
        "backbone": {"channels": None, "bands": None, "labels": None},
    }
    adapted = Audio.adapt(config, data)
    assert adapted["backbone"] == {"channels": 1, "bands": 64, "labels": {"digit": 2}}
    assert adapted["modality"]["durations"][0] == 0.5 and adapted["modality"]["durations"][-1] == 1.024
    assert adapted["modality"]["durations_of"] == {"0": [0.5] * 9, "1": [1.024] * 9}
    assert adapted["modality"]["codec"]["rate"] == 8000 and adapted["modality"]["codec"]["std"] > 0
    assert config["backbone"]["bands"] is None
    config["modality"]["codec"]["rate"] = 16000
    with pytest.raises(UserError, match="works at 16000 Hz and the data at 8000 Hz"):
        Audio.adapt(config, data)


def test_captions_of_notes_become_what_they_say() -> None:
    notation = Notation()
    said = notation.parse(["a short loud pure C4", "C4 and E4, organ", ""])
    assert said["pitch"].tolist() == [8, 8, 32] and said["second"].tolist() == [0, 13, 33]
    assert said["timbre"].tolist() == [0, 3, 5] and said["loudness"].tolist() == [2, 3, 3]
    item = Notes("single", "heldout", 4)[2]
    encoded = notation.encode({"caption": [item["caption"]]})
    heads = [encoded[name].item() for name in ("pitch", "timbre", "envelope", "loudness")]
    assert heads == item["labels"].tolist()
    with pytest.raises(PromptError):
        notation.parse(["a green circle"])


def test_the_unet_sees_where_it_is_and_writes_nothing_beyond_the_clip() -> None:
    torch.manual_seed(0)
    net = SpectrogramUNet(1, 20, width=8, multipliers=(1, 1), attention=(), labels={"digit": 3})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    mask = torch.arange(30) < torch.tensor([[30], [11]])
    condition = TensorDict({"mask": mask, "digit": torch.tensor([0, 2])}, batch_size=[2])
    x, level = torch.zeros(2, 30, 1, 20), torch.tensor([500.0, 500.0])
    out = net(x, level, condition)
    assert out.shape == x.shape and out[1, 11:].abs().max() == 0
    assert float(out[0, 15].std()) > 0.01  # the input is the same in every band: the waves tell them apart
    poisoned = x.clone()
    poisoned[1, 11:] = float("nan")
    torch.testing.assert_close(net(poisoned, level, condition), out)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("backbone", [None, "audio/unet", "audio/transformer"])
def test_presets_compose_and_name_what_exists(preset: str, backbone: str | None) -> None:
    extra = [] if preset == "audio/notes" else ["data.path=x"]
    extra += [] if backbone is None else [f"backbone={backbone}"]
    config = compose("train", [f"experiment={preset}", "run=x", *extra])
    assert check(plain(config), allowed(config)) == []


@pytest.mark.parametrize("preset", ["audio/fsdd_latent", "audio/fsdd_vae", "audio/notes_latent", "audio/notes_vae"])
def test_presets_of_autoencoders_compose(preset: str) -> None:
    extra = [] if "notes" in preset else ["data.path=x"]
    config = compose("train", [f"experiment={preset}", "run=x", *extra])
    assert check(plain(config), allowed(config)) == []


def go(command: Any, name: str, *overrides: str) -> Any:
    return command.run(compose(name, list(overrides)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of spoken labels, trained for a few steps on a folder of tones."""
    folder = tmp_path_factory.mktemp("audio")
    for digit, pitch in enumerate((300, 500, 900)):
        for speaker, harmonic in (("ann", 2), ("bob", 3)):
            for take in range(8):
                t = torch.arange(2400 + 400 * (take % 5)) / 8000
                tone = torch.sin(2 * torch.pi * pitch * t + take) + 0.5 * torch.sin(2 * torch.pi * harmonic * pitch * t)
                write_audio(folder / "clips" / f"{digit}_{speaker}_{take}.wav", 0.3 * tone, 8000, {})
    (folder / "clips" / "2_bob_9.wav").write_bytes(b"no sound at all")
    go(
        train,
        "train",
        "experiment=audio/folder",
        "modality=audio/fields",
        "backbone=audio/transformer",
        "backbone.layers=1",
        "backbone.width=32",
        "backbone.labels=null",
        "data.rate=8000",
        "data.seconds=0.6",
        "data.held_out_share=0.3",
        "data.batch_size=4",
        "data.pattern='{digit}_{speaker}_{take}'",
        "data.heads=[digit,speaker]",
        f"data.path={folder / 'clips'}",
        f"run={folder / 'run'}",
        "debug=fast",
        "logger=csv",
    )
    return folder / "run"


def test_a_run_skips_what_is_broken_and_names_it(run: Path) -> None:
    assert "2_bob_9.wav" in (run / "skipped.csv").read_text()


def test_prompts_become_sound_files_and_a_page(run: Path, tmp_path: Path) -> None:
    words = "prompt=digit=1 speaker=ann seconds=0.4"
    go(sample, "sample", f"run={run}", words, "n=3", "steps=2", f"out={tmp_path}", "trajectory=true")
    assert {p.name for p in tmp_path.iterdir()} == {
        "00000.wav", "00001.wav", "00002.wav", "page.html", "sheet.png", "trajectory.png"
    }  # fmt: skip
    samples, rate = soundfile.read(tmp_path / "00001.wav")
    assert rate == 8000 and len(samples) == 3200 and np.abs(samples).max() <= 1
    assert (tmp_path / "page.html").read_text().count("<audio") == 3


def test_a_span_is_made_anew_and_the_rest_stays(run: Path, tmp_path: Path) -> None:
    from framework import load
    from framework.editing.requests import Inpaint

    model = load(run)
    file = run.parent / "clips" / "0_ann_3.wav"
    given, condition = model.modality.encode(model.modality.read(file))
    kept: list[Tensor] = []
    tasks = Inpaint(str(file), keep="time=0-0.2", resampling=1).tasks(model.modality)
    model.sample("digit=2", n=2, steps=4, tasks=tasks, hooks=[lambda progress: kept.append(progress.x)])
    inside = model.modality.region("time=0-0.2", given, condition).expand_as(given)
    for row in kept[-1]:
        torch.testing.assert_close(row[: given.shape[1]][inside[0]], given[0][inside[0]], atol=1e-4, rtol=0)
    assert float((kept[-1][0] - given[0])[~inside[0]].abs().max()) > 0.1


def test_clips_longer_than_the_model_was_trained_on(run: Path, tmp_path: Path) -> None:
    go(sample, "sample", f"run={run}", "prompt=digit=1 seconds=2", "n=1", "steps=2", "task=long", f"out={tmp_path}")
    samples, _ = soundfile.read(tmp_path / "00000.wav")
    assert len(samples) == 16000


def test_a_run_is_judged_beside_real_clips(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFRACT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("modalities.audio.judge.CLASSIFIER_STEPS", 30)
    go(evaluate, "evaluate", f"run={run}", "n=12", "steps=2", f"out={tmp_path / 'evaluation'}")
    metrics = read_metrics(tmp_path / "evaluation" / "metrics.json")
    assert {
        "class_accuracy/digit",
        "class_accuracy/speaker",
        "ceiling/class_accuracy/digit",
        "resynthesis/class_accuracy/digit",
        "diversity",
        "nearest_training_clip/mean",
        "checks/silent",
        "checks/clipped",
        "reference/matched",
    } <= metrics.keys()


def test_unknown_options_of_evaluation_are_named(run: Path) -> None:
    with pytest.raises(UserError, match="audio knows no option fid"):
        audio(Unconditional()).evaluate(None, [None], None, 0, {"fid": 1})  # type: ignore[arg-type]
