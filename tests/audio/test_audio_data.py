"""Clips from files: what is broken is named, what is held out stays so, and the data module gives what a run needs."""

import csv
import importlib
import inspect
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import soundfile
import torch
import yaml

import modalities.audio.conf as conf
from framework.errors import DataError, UserError
from modalities.audio.clip_set import ClipSet, Preparation, balanced, facts
from modalities.audio.data import AudioData, AudioFolderData
from modalities.audio.levels import loudness, peak_db, rms_db
from modalities.audio.presets import FsddData, LJSpeechData, SpeechCommandsData
from modalities.audio.sources import Listing, Recording, list_path

RATE = 8_000


def tone(frequency, seconds=0.2, amplitude=0.5, rate=RATE):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write_tones(folder, names, **options):
    """One tone a file, of a frequency that its name decides; amplitudes differ by 20 dB."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wave = tone(100 + 3_000 * crc32(name.encode()) / 2**32, **{"amplitude": (0.05, 0.5)[i % 2], **options})
        soundfile.write(folder / name, wave, options.get("rate", RATE))
    return folder


def clip_set(folder, rate=RATE, seconds=0.25, **options):
    preparation = {name: options.pop(name) for name in list(options) if name in Preparation.__dataclass_fields__}
    return ClipSet(list_path(folder), Preparation(rate, seconds, **preparation), **options)


# Preparation


def test_a_clip_is_padded_with_zeros_behind(tmp_path):
    item = clip_set(write_tones(tmp_path, ["a/1.wav"]))[0]
    assert item["waveform"].shape == (2_000,) and item["waveform"].dtype == torch.float32 and item["length"] == 1_600
    assert (item["waveform"][1_600:] == 0).all() and item["waveform"][:1_600].abs().max() > 0.8
    assert item["labels"].tolist() == [0] and item["caption"] == "a"


def test_a_long_recording_is_cropped_where_its_name_says(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.linspace(-0.5, 0.5, 8_000), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", np.linspace(-0.5, 0.5, 8_000), RATE, subtype="FLOAT")
    clips = clip_set(tmp_path, level="none")
    starts = [float(clips[i]["waveform"][0]) for i in range(2)]
    assert clips.lengths.tolist() == [2_000, 2_000] and abs(starts[0] - starts[1]) > 0.01
    assert starts == [float(clip_set(tmp_path, level="none")[i]["waveform"][0]) for i in range(2)]
    slope = clips[0]["waveform"].double().diff()
    assert torch.allclose(slope, torch.full_like(slope, 1 / 7_999), atol=1e-6)


def test_no_crop_is_silent(tmp_path):
    for i in range(20):
        wave = np.zeros(16_000)
        wave[6_000:7_600] = tone(300)
        soundfile.write(tmp_path / f"{i}.wav", wave, RATE)
    clips = clip_set(tmp_path, level="none")
    assert len(clips) == 20 and all(clips[i]["waveform"].abs().max() > 0.4 for i in range(20))


@pytest.mark.parametrize(("level", "target"), [("peak", -1.0), ("rms", -20.0), ("loudness", -23.0), ("rms", -30.0)])
def test_all_clips_have_the_same_level_and_no_mean(tmp_path, level, target):
    measure = {"peak": peak_db, "rms": rms_db, "loudness": lambda clip: loudness(clip, RATE)}[level]
    soundfile.write(tmp_path / "offset.wav", 0.3 + tone(200, amplitude=0.1), RATE)
    clips = clip_set(write_tones(tmp_path, ["1.wav", "2.wav"]), level=level, target_db=target)
    for item in clips:
        real = item["waveform"][: item["length"]]
        assert measure(real) == pytest.approx(target, abs=0.01) and abs(real.mean()) < 1e-3


def test_silence_at_the_ends_is_cut_off_when_asked(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.concatenate([np.zeros(800), tone(300, 0.05), np.zeros(400)]), RATE)
    assert clip_set(tmp_path).lengths.tolist() == [1_600]
    assert 400 <= clip_set(tmp_path, trim_db=-40.0).lengths.item() <= 400 + 320


def test_any_rate_becomes_the_one_that_is_asked_for(tmp_path):
    write_tones(tmp_path, ["1.wav"], rate=16_000)
    assert clip_set(tmp_path).lengths.tolist() == [1_600]


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(UserError, match="'loud' is none of none, peak, rms, loudness"):
        Preparation(RATE, 1.0, "loud")
    with pytest.raises(UserError, match="hold no samples"):
        Preparation(RATE, 0.0)


# Bad items


def write_with_bad_ones(folder, good=40):
    write_tones(folder, [f"{i:02d}.wav" for i in range(good)])
    whole = (folder / "00.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.mp3").write_bytes(b"<html>404 not found</html>")
    soundfile.write(folder / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(folder / "silent.wav", np.zeros(1_600), RATE)
    soundfile.write(folder / "constant.wav", np.full(1_600, 0.5), RATE)
    soundfile.write(folder / "click.wav", np.ones(20), RATE)
    soundfile.write(folder / "rate.wav", tone(300), 50)
    soundfile.write(folder / "nan.wav", np.full(1_600, np.nan), RATE, subtype="FLOAT")
    return folder


REASONS = {
    "cut.wav": "cut off",
    "empty.wav": "0 bytes",
    "text.mp3": "not readable as sound",
    "nothing.wav": "0 samples",
    "silent.wav": "silent",
    "constant.wav": "silent",
    "click.wav": "too short",
    "rate.wav": "implausible rate: 50 Hz",
    "nan.wav": "not finite",
}


def test_bad_items_are_skipped_counted_and_named(tmp_path):
    folder = write_with_bad_ones(tmp_path / "sounds")
    data = AudioFolderData(
        str(folder), rate=RATE, seconds=0.25, max_bad_share=0.2, skipped_path=str(tmp_path / "run/skipped.csv")
    )
    data.setup("fit")
    assert len(data.clips) == 40 and {item.name for item in data.bad_items} == set(REASONS)
    with (tmp_path / "run/skipped.csv").open() as file:
        rows = {row["name"]: row["reason"] for row in csv.DictReader(file)}
    assert set(rows) == set(REASONS) and all(reason in rows[name] for name, reason in REASONS.items())


def test_too_many_bad_items_are_an_error_that_names_them(tmp_path):
    folder = write_with_bad_ones(tmp_path / "sounds")
    with pytest.raises(DataError, match=r"9 of 49 .*max_bad_share=0\.05 .*'click\.wav'"):
        AudioFolderData(str(folder), rate=RATE, skipped_path=str(tmp_path / "skipped.csv")).setup()
    assert (tmp_path / "skipped.csv").read_text().count("\n") == 10


def test_a_file_that_breaks_later_is_named(tmp_path):
    clips = clip_set(write_tones(tmp_path, ["a.wav"]), cache_bytes=0)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(DataError, match=r"a\.wav could be read when the run began.*No such file"):
        clips[0]


# Sets


def test_what_does_not_fit_into_memory_is_read_at_access(tmp_path):
    write_tones(tmp_path, [f"{i}.wav" for i in range(6)])
    (tmp_path / "3.wav").write_bytes(b"")
    kept, part, lazy = (clip_set(tmp_path, max_bad_share=0.5, cache_bytes=size) for size in (2**30, 20_000, 0))
    assert len(kept) == len(part) == len(lazy) == 5
    assert kept._kept is not None and part._kept is None and lazy._kept is None
    for i in range(5):
        assert torch.equal(kept[i]["waveform"], lazy[i]["waveform"]) and kept.items[i] == lazy.items[i]


def test_items_are_not_changed_by_what_is_done_to_them(tmp_path):
    clips = clip_set(write_tones(tmp_path, ["a.wav"], seconds=0.25))
    clips[0]["waveform"].zero_()
    assert clips[0]["waveform"].abs().max() > 0.8


def names(part):
    return {part.whole.items[i].name for i in part.indices}


def test_more_data_do_not_move_an_item_across_the_split(tmp_path):
    write_tones(tmp_path, [f"{i:03d}.wav" for i in range(60)], seconds=0.05)
    few = clip_set(tmp_path).split(0.2)
    write_tones(tmp_path, [f"x{i:03d}.wav" for i in range(60)], seconds=0.05)
    more = clip_set(tmp_path).split(0.2)
    for before, after in zip(few, more, strict=True):
        assert names(before) < names(after)
    assert not names(more[0]) & names(more[1]) and 0.1 < len(more[1]) / 120 < 0.3


def test_the_order_of_a_listing_changes_no_item(tmp_path):
    write_tones(tmp_path, [f"{k}/{i}.wav" for k in "ab" for i in range(8)], seconds=0.4)
    listing = list_path(tmp_path)
    turned = Listing.of(listing.origin, listing.items[::-1])
    sets = [ClipSet(source, Preparation(RATE, 0.25)) for source in (listing, turned)]
    by_name = [{clips.items[i].name: clips[i] for i in range(16)} for clips in sets]
    for name, item in by_name[0].items():
        other = by_name[1][name]
        assert torch.equal(item["waveform"], other["waveform"]) and torch.equal(item["labels"], other["labels"])
    assert [names(part) for part in sets[0].split(0.3)] == [names(part) for part in sets[1].split(0.3)]


def test_groups_stay_together_and_the_source_has_the_last_word(tmp_path):
    write_tones(tmp_path, [f"{i}.wav" for i in range(40)], seconds=0.05)
    files = sorted(tmp_path.iterdir())
    grouped = [Recording(file.name, file, "", {}, group=str(i // 4)) for i, file in enumerate(files)]
    parts = ClipSet(Listing.of("x", grouped), Preparation(RATE, 0.1)).split(0.3)
    assert not {i // 4 for i in parts[0].indices} & {i // 4 for i in parts[1].indices}
    said = [Recording(file.name, file, "", {}, held_out=i % 4 == 0) for i, file in enumerate(files)]
    held_out = ClipSet(Listing.of("x", said), Preparation(RATE, 0.1)).split(0.3)[1]
    assert held_out.indices.tolist() == list(range(0, 40, 4))


def test_a_split_without_items_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"2 are for training and 0 are held out.*data\.held_out_share"):
        clip_set(write_tones(tmp_path, ["a.wav", "b.wav"])).split(0.0)


# Data modules


def write_fsdd(folder):
    """The first digits of each speaker but one; the takes are of three lengths."""
    for digit in range(3):
        for speaker in ("ann", "theo"):
            if (digit, speaker) != (2, "theo"):
                for take in range(12):
                    write_tones(folder, [f"{digit}_{speaker}_{take}.wav"], seconds=0.1 + 0.05 * (take % 3))
    return folder


@pytest.fixture
def fsdd(tmp_path):
    return FsddData(str(write_fsdd(tmp_path / "fsdd")), seconds=0.25, batch_size=8)


@pytest.fixture
def modules(tmp_path, fsdd):
    write_tones(tmp_path / "folder", [f"{i}.wav" for i in range(40)])
    for i in range(40):
        (tmp_path / "folder" / f"{i}.txt").write_text(f"sound {i}")
    write_tones(tmp_path / "words", [f"{w}/{s}_nohash_0.wav" for w in ("one", "two") for s in "abcdefghijkl"])
    write_tones(tmp_path / "lj/wavs", [f"LJ{i}.wav" for i in range(40)])
    (tmp_path / "lj/metadata.csv").write_text("".join(f"LJ{i}|sentence {i}|sentence {i}\n" for i in range(40)))
    short = {"rate": RATE, "seconds": 0.25, "batch_size": 8, "held_out_share": 0.3}
    return [
        fsdd,
        AudioFolderData(str(tmp_path / "folder"), **short),
        SpeechCommandsData(str(tmp_path / "words"), **short),
        LJSpeechData(str(tmp_path / "lj"), **short),
        AudioData(
            clip_set(tmp_path / "folder"), lambda: clip_set(tmp_path / "lj/wavs"), rate=RATE, seconds=0.25, batch_size=8
        ),
    ]


def test_every_module_gives_batches_prompts_and_real_clips(modules):
    for data in modules:
        data.setup("fit")
        for loader in (data.train_dataloader(), data.val_dataloader()):
            batch = next(iter(loader))
            n = len(batch["caption"])
            assert batch["waveform"].shape == (n, data.size) == (n, 2_000) and 0 < n <= 8
            assert batch["waveform"].dtype == torch.float32 and batch["waveform"].abs().max() <= 1
            assert batch["length"].shape == (n,) and batch["length"].dtype == torch.int64
            assert batch["labels"].shape == (n, len(data.heads)) and batch["labels"].dtype == torch.int64
            assert all(isinstance(caption, str) for caption in batch["caption"])
        waveforms, labels, captions = data.reference(6, seed=1)
        assert len(waveforms) == len(labels) == len(captions) <= 6 and waveforms.rate == RATE
        assert torch.equal(waveforms.samples, data.reference(6, seed=1).waveforms.samples)
        assert not torch.equal(waveforms.samples, data.reference(6, seed=2).waveforms.samples)
        assert len(data.prompts(25, seed=0)) == 25 and data.prompts(25, seed=0) == data.prompts(25, seed=0)
        assert data.lengths.dtype == torch.int64 and len(data.lengths) == len(data.train_set)
        assert data.judge(waveforms, captions) == {} and data.probes(4, 0) == []


def test_reference_clips_were_not_trained_on_and_the_others_were(modules):
    for data in modules:
        data.setup()
        trained = {data.train_set[i]["waveform"].numpy().tobytes() for i in range(len(data.train_set))}
        assert not trained & {clip.numpy().tobytes() for clip in data.reference(1_000, 0).waveforms.samples}
        assert {clip.numpy().tobytes() for clip in data.training_reference(1_000, 0).waveforms.samples} == trained


def test_fsdd_has_two_heads_its_own_split_and_its_lengths(fsdd):
    assert fsdd.heads == {"digit": tuple("0123456789"), "speaker": ("ann", "theo")}
    fsdd.setup()
    assert len(fsdd.train_set) == 5 * 7 and len(fsdd.validation_set) == 5 * 5
    assert sorted(set(fsdd.lengths.tolist())) == [800, 1_200, 1_600]
    item = fsdd.validation_set[0]
    assert item["caption"] == "zero, spoken by ann" and fsdd.named(item["labels"].tolist()) == {
        "digit": "0",
        "speaker": "ann",
    }


def test_prompts_are_all_combinations_of_the_training_data_in_equal_numbers(fsdd):
    orders = set()
    for seed in range(5):
        prompts = [(prompt["digit"], prompt["speaker"]) for prompt in fsdd.prompts(12, seed)]
        counts = {prompt: prompts.count(prompt) for prompt in prompts}
        assert ("2", "theo") not in counts and sorted(counts.values()) == [2, 2, 2, 3, 3]
        orders.add(tuple(prompts))
    assert len(orders) == 5


def test_without_classes_the_prompts_are_held_out_captions(modules):
    for data in (modules[1], modules[3]):
        prompts = data.prompts(5, seed=0)
        assert data.heads == {} and data.classes(5, 0) == []
        assert set(prompts) <= set(facts(data.validation_set).captions) and prompts == data.captions(5, 0)


def test_a_reference_is_balanced_as_long_as_the_classes_last():
    labels = torch.tensor([[0, 0]] * 50 + [[0, 1]] * 3 + [[1, 0]] * 20)
    chosen = balanced(labels, 12, seed=0)
    assert len(set(chosen.tolist())) == 12
    assert [int((labels[chosen] == torch.tensor(row)).all(-1).sum()) for row in ((0, 0), (0, 1), (1, 0))] in (
        [5, 3, 4],
        [4, 3, 5],
    )
    assert sorted(balanced(labels, 1_000, seed=0)) == list(range(73))
    assert balanced(labels, 12, seed=1).tolist() != chosen.tolist() == balanced(labels, 40, seed=0)[:12].tolist()
    assert sorted(balanced(torch.zeros(9, 0, dtype=torch.long), 20, seed=0)) == list(range(9))


def test_facts_of_a_set_that_must_be_read_are_those_of_one_that_knows(fsdd):
    fsdd.setup()

    class Plain(torch.utils.data.Dataset):
        def __len__(self):
            return len(fsdd.train_set)

        def __getitem__(self, index):
            return fsdd.train_set[index]

    read, known = facts(Plain()), facts(fsdd.train_set)
    assert torch.equal(read.lengths, known.lengths) and torch.equal(read.labels, known.labels)
    assert read.captions == known.captions


@pytest.mark.parametrize("name", ["folder", "fsdd", "speech_commands", "ljspeech"])
def test_configurations_say_what_the_constructors_have_as_defaults(name):
    node = yaml.safe_load((Path(conf.__file__).parent / f"data/audio/{name}.yaml").read_text())
    module, _, kind = node.pop("_target_").rpartition(".")
    known = inspect.signature(getattr(importlib.import_module(module), kind).__init__).parameters
    assert set(node) == set(known) - {"self"}
    for key, value in node.items():
        if key not in ("path", "skipped_path", "seed"):
            assert value == (list(known[key].default) if isinstance(value, list) else known[key].default)


def test_making_a_module_reads_nothing_and_setup_reads_once(tmp_path):
    data = AudioFolderData(str(tmp_path / "later"), rate=RATE, seconds=0.25)
    write_tones(tmp_path / "later", [f"{i}.wav" for i in range(40)])
    data.setup("fit")
    train = data.train_set
    data.setup("validate")
    assert data.train_set is train
