"""Listings of sound files: what is found, what its classes and captions are, what belongs to which part."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torchaudio

from framework.errors import DataError, UserError
from modalities.audio.presets import WORDS, list_fsdd, list_ljspeech, list_speech_commands
from modalities.audio.sources import Listing, Recording, compile_pattern, labels_of, list_path

RATE = 8_000


def write_clips(folder, names, rate=RATE, seconds=0.1):
    """One tone a file, of a frequency that the file's name decides."""
    for name in names:
        frequency = 200 + sum(name.encode()) % 1_000
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
        soundfile.write(folder / name, wave, rate)


def found(listing):
    return {item.name: (dict(item.classes), item.caption) for item in listing.items}


# Folders


def test_subfolders_are_classes(tmp_path):
    write_clips(tmp_path, ["owl/1.wav", "owl/2.FLAC", "door_bell/1.ogg", "owl/.hidden.wav"])
    (tmp_path / "owl/notes.md").write_text("not a sound, and nobody said so")
    listing = list_path(tmp_path)
    assert listing.heads == {"class": ("door_bell", "owl")} and listing.bad == ()
    bell, owl = ({"class": "door_bell"}, "door bell"), ({"class": "owl"}, "owl")
    assert found(listing) == {"door_bell/1.ogg": bell, "owl/1.wav": owl, "owl/2.FLAC": owl}


def test_captions_beside_the_files(tmp_path):
    write_clips(tmp_path, ["a.wav", "b.wav"])
    (tmp_path / "a.txt").write_text("an old boat\n")
    listing = list_path(tmp_path)
    assert [item.caption for item in listing.items] == ["an old boat", ""] and listing.heads == {}


def test_classes_from_file_names(tmp_path):
    write_clips(tmp_path, ["7_theo_0.wav", "10_theo_1.wav", "x/7_van_dyke_2.wav", "hello.wav"])
    listing = list_path(tmp_path, "{digit}_{speaker}_{take}", ["digit", "speaker"])
    assert listing.heads == {"digit": ("7", "10"), "speaker": ("theo", "van")}
    assert found(listing)["7_theo_0.wav"] == ({"digit": "7", "speaker": "theo"}, "digit 7, speaker theo")
    assert [item.name for item in listing.bad] == ["hello.wav"] and "does not fit" in listing.bad[0].reason
    assert set(list_path(tmp_path, "{digit}_{speaker}_{take}").heads) == {"digit", "speaker", "take"}


def test_classes_from_paths(tmp_path):
    write_clips(tmp_path, ["theo/7.wav", "lucas/7.wav"])
    listing = list_path(tmp_path, "{speaker}/{digit}")
    assert found(listing)["theo/7.wav"][0] == {"speaker": "theo", "digit": "7"}


@pytest.mark.parametrize("pattern", ["plain", "{a}_{a}", "{a", "{a b}", "{}"])
def test_a_pattern_that_means_nothing_is_refused(pattern):
    with pytest.raises(UserError, match=r"data\.pattern"):
        compile_pattern(pattern)


def test_a_pattern_takes_its_own_characters_literally():
    assert compile_pattern("({a}).{b}+").fullmatch("(x).y+").groupdict() == {"a": "x", "b": "y"}
    assert compile_pattern("({a}).{b}+").fullmatch("(x)-yy") is None


def test_unknown_heads_are_named(tmp_path):
    write_clips(tmp_path, ["7_theo.wav"])
    with pytest.raises(UserError, match="has no speeker; it has digit, speaker"):
        list_path(tmp_path, "{digit}_{speaker}", ["speeker"])


def test_wrong_paths_say_what_would_be_right(tmp_path):
    with pytest.raises(DataError, match="does not exist; give a folder"):
        list_path(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no sound files .*\.wav"):
        list_path(tmp_path)
    write_clips(tmp_path, ["a.wav"])
    with pytest.raises(DataError, match=r"no table of sound files: it should end in \.csv or \.jsonl"):
        list_path(tmp_path / "a.wav")
    (tmp_path / "t.csv").write_text("path\na.wav\n")
    with pytest.raises(UserError, match=r"data\.pattern.* is for a folder"):
        list_path(tmp_path / "t.csv", "{a}")


# Classes


def recording(name, **classes):
    return Recording(name, None, "", classes)


def test_classes_are_numbered_alike_in_any_order():
    items = [recording(str(i), digit=str(i % 12), speaker="ab"[i % 2]) for i in range(24)]
    forward, backward = Listing.of("x", items), Listing.of("x", items[::-1])
    assert forward.heads == backward.heads == {"digit": tuple(map(str, range(12))), "speaker": ("a", "b")}
    assert labels_of(items[11].classes, forward.heads) == [11, 1]


def test_what_is_not_known_is_no_class():
    listing = Listing.of("x", [recording("a", word="go", mood=""), recording("b", word="")])
    assert listing.heads == {"word": ("go",)}
    assert [labels_of(item.classes, listing.heads) for item in listing.items] == [[0], [-1]]


def test_a_column_of_numbers_is_no_head():
    with pytest.raises(DataError, match=r"'duration' has 1001 different values.*data\.heads"):
        Listing.of("x", [recording(str(i), duration=str(i)) for i in range(1001)])


# Tables


ROWS = [
    {"path": "a.wav", "caption": "a bell, far away", "kind": "bell", "split": "train"},
    {"path": "sub/b.wav", "caption": "a door", "kind": "door", "split": "test"},
    {"path": "gone.wav", "caption": "no sound", "kind": "bell", "split": ""},
    {"path": "c.wav", "caption": "", "kind": "", "split": ""},
    {"path": "c.wav", "caption": "again", "kind": "bell", "split": "perhaps"},
    {"path": "", "caption": "nothing", "kind": "bell", "split": ""},
]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_table_gives_captions_classes_and_parts(tmp_path, form):
    write_clips(tmp_path, ["a.wav", "sub/b.wav", "c.wav"])
    if form == "csv":
        lines = [",".join(ROWS[0]), *(",".join(f'"{value}"' for value in row.values()) for row in ROWS)]
    else:
        lines = [json.dumps({key: value or None for key, value in row.items()}) for row in ROWS]
    (tmp_path / f"t.{form}").write_text("\n".join(lines))
    listing = list_path(tmp_path / f"t.{form}")
    assert listing.heads == {"kind": ("bell", "door")}
    assert [(item.name, item.caption, item.held_out) for item in listing.items] == [
        ("a.wav", "a bell, far away", False),
        ("sub/b.wav", "a door", True),
        ("c.wav", "", None),
    ]
    assert {item.name: item.reason for item in listing.bad} == {
        "gone.wav": "there is no such file",
        "c.wav": "its split is 'perhaps', which should be train, validation or test",
        "entry 6": "names no file",
    }


def test_a_table_without_captions_has_its_classes_for_captions(tmp_path):
    write_clips(tmp_path, ["a.wav"])
    (tmp_path / "t.csv").write_text("file_name,pitch,timbre,seconds\na.wav,low,brassy_dark,0.1\n")
    assert list_path(tmp_path / "t.csv", heads=["pitch", "timbre"]).items[0].caption == "pitch low, timbre brassy dark"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "clip,caption\na.wav,x\n", "no column path or file_name or file; its columns are clip, caption"),
        ("t.jsonl", '{"path": "a.wav"}\n{"path"', "a line is not JSON"),
        ("t.jsonl", '["a.wav"]', "should be a JSON object"),
    ],
)
def test_a_broken_table_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        list_path(tmp_path / name)


# Known sets


@pytest.mark.parametrize("folder", ["recordings", "."])
def test_fsdd_holds_out_its_first_takes(tmp_path, folder):
    names = [f"{digit}_{speaker}_{take}.wav" for digit in (3, 7) for speaker in ("theo", "ann") for take in range(8)]
    write_clips(tmp_path / folder, [*names, "notes.wav"], seconds=0.01)
    listing = list_fsdd(tmp_path)
    assert listing.heads == {"digit": tuple("0123456789"), "speaker": ("ann", "theo")}
    assert {item.name for item in listing.items if item.held_out} == {n for n in names if int(n[-5]) < 5}
    assert found(listing)["7_ann_0.wav"] == ({"digit": "7", "speaker": "ann"}, "seven, spoken by ann")
    assert [item.name for item in listing.bad] == ["notes.wav"]


def test_fsdd_without_its_test_takes_holds_out_the_lowest_that_there_are(tmp_path):
    write_clips(tmp_path, [f"3_ann_{take}.wav" for take in range(5, 12)], seconds=0.01)
    assert [item.name for item in list_fsdd(tmp_path).items if not item.held_out] == ["3_ann_10.wav", "3_ann_11.wav"]


def write_commands(folder):
    write_clips(folder, [f"{w}/{s}_nohash_{k}.wav" for w in ("one", "two", "bed") for s in "ab" for k in (0, 1)])
    write_clips(folder, ["_background_noise_/pink.wav"])


def test_speech_commands_are_split_by_their_lists(tmp_path):
    write_commands(tmp_path / "SpeechCommands/speech_commands_v0.02")
    for name, line in (("validation", "one/a_nohash_0.wav"), ("testing", "two/b_nohash_1.wav\nbed/a_nohash_0.wav")):
        (tmp_path / f"SpeechCommands/speech_commands_v0.02/{name}_list.txt").write_text(line + "\n")
    listing = list_speech_commands(tmp_path)
    assert len(listing.items) == 8 and listing.heads == {"word": WORDS}
    held_out = {item.name for item in listing.items if item.held_out}
    assert held_out == {"one/a_nohash_0.wav", "two/b_nohash_1.wav"}
    assert set(list_speech_commands(tmp_path, ["bed", "two"]).heads["word"]) == {"bed", "two"}


def test_speech_commands_without_lists_are_split_by_speaker(tmp_path):
    write_commands(tmp_path)
    assert {(item.held_out, item.group) for item in list_speech_commands(tmp_path).items} == {(None, "a"), (None, "b")}


def write_ljspeech(folder):
    write_clips(folder, ["wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav"])
    lines = ['LJ001-0001|In 1455, "he|In fourteen fifty-five, "he', "LJ001-0002|said|", "LJ001-0003|gone|gone"]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def test_ljspeech_has_captions(tmp_path):
    write_ljspeech(tmp_path / "LJSpeech-1.1")
    listing = list_ljspeech(tmp_path)
    assert [item.caption for item in listing.items] == ['In fourteen fifty-five, "he', "said"]
    assert listing.heads == {} and [item.name for item in listing.bad] == ["LJ001-0003"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (list_fsdd, r"free-spoken-digit-dataset and set data\.path="),
        (list_speech_commands, r"unpack .*speech_commands_v0\.02\.tar\.gz and set data\.path=.*data\.download=true"),
        (list_ljspeech, r"unpack .*LJSpeech-1\.1\.tar\.bz2 and set data\.path=.*data\.download=true"),
    ],
)
def test_what_is_not_there_says_what_to_put_where(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        make(tmp_path)
    with pytest.raises(DataError, match=message):
        make(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("module", "make", "write", "archive"),
    [
        ("speechcommands", list_speech_commands, write_commands, "speech_commands_v0.02.tar.gz"),
        ("ljspeech", list_ljspeech, lambda folder: write_ljspeech(folder / "LJSpeech-1.1"), "LJSpeech-1.1.tar.bz2"),
    ],
)
def test_a_download_is_unpacked_and_listed(tmp_path, monkeypatch, module, make, write, archive):
    """torchaudio's own class fetches and unpacks; here the network is a file."""
    asked = []

    def fetch(url, target, hash_prefix=None):
        asked.append((url.rpartition("/")[2], hash_prefix))
        write(tmp_path / "there")
        with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w:bz2") as file:
            for path in sorted((tmp_path / "there").iterdir()):
                file.add(path, path.name)

    monkeypatch.setattr(
        f"torchaudio.datasets.{module}.download_url_to_file",
        lambda url, target, **rest: fetch(url, Path(target), **rest),
    )
    listing = make(tmp_path / "here", download=True)
    assert len(listing.items) > 1 and asked[0][0] == archive and len(asked[0][1]) == 64
    make(tmp_path / "here", download=True)
    assert len(asked) == 1


def test_a_failed_download_says_what_to_put_where(tmp_path, monkeypatch):
    def refuse(*args, **rest):
        raise OSError("no route to host")

    monkeypatch.setattr(torchaudio.datasets, "LJSPEECH", refuse)
    with pytest.raises(DataError, match=r"no route to host.*unpack .*set data\.path="):
        list_ljspeech(tmp_path, download=True)
