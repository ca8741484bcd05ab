"""Sets of recordings that are known by name: the Free Spoken Digit Dataset, Speech Commands, LJSpeech.

For each a listing and a data module. torchaudio's own data sets serve for the download alone (with its check by hash):
they read through torchcodec, and these do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from framework.data.bad_items import BadItem, DataError
from modalities.audio.clip_set import Preparation
from modalities.audio.data import ListedData
from modalities.audio.sources import Listing, Recording, sound_files

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEST_TAKES = 5  # of FSDD, for each digit and speaker

_FSDD_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>.+)_(?P<take>\d+)")


def list_fsdd(path: str | Path) -> Listing:
    """The Free Spoken Digit Dataset: `{digit}_{speaker}_{take}.wav` in `path` or in its folder recordings.

    Held out are the five lowest takes that there are: 0 to 4 in the whole set, as its authors have it. Heads: digit,
    speaker. github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0.
    """
    path = Path(path)
    folder = path / "recordings" if (path / "recordings").is_dir() else path
    files = sound_files(folder) if folder.is_dir() else []
    if not files:
        raise DataError(
            f"data.path={path} holds no recordings like 7_theo_12.wav; download "
            "github.com/Jakobovski/free-spoken-digit-dataset and set data.path=<its folder>"
        )
    fits = {file: _FSDD_NAME.fullmatch(file.stem) for file in files}
    bad = [BadItem(file.name, "its name is not digit_speaker_take") for file, fit in fits.items() if fit is None]
    takes = sorted({int(fit["take"]) for fit in fits.values() if fit is not None})
    items = [
        Recording(
            file.name,
            file,
            f"{WORDS[int(fit['digit'])]}, spoken by {fit['speaker']}",
            {"digit": fit["digit"], "speaker": fit["speaker"]},
            int(fit["take"]) in takes[:TEST_TAKES],
        )
        for file, fit in fits.items()
        if fit is not None
    ]
    return Listing.of(str(folder), items, bad, {"digit": [str(k) for k in range(10)]})


def list_speech_commands(path: str | Path, words: Sequence[str] = WORDS, download: bool = False) -> Listing:
    """Speech Commands v0.02 (Warden, arXiv:1804.03209): one folder a word, 16 kHz; the ten digits are known as SC09.

    Held out are the files that its testing_list.txt and validation_list.txt name; without these lists a share of the
    speakers. Head: word. `download` fetches it (2.4 GB) if it is not there.
    """
    path = Path(path)
    places = [path, path / "SpeechCommands" / "speech_commands_v0.02", path / "speech_commands_v0.02"]

    def there() -> Path | None:
        return next((place for place in places if any((place / word).is_dir() for word in words)), None)

    def fetch() -> None:
        from torchaudio.datasets import SPEECHCOMMANDS

        SPEECHCOMMANDS(path, url="speech_commands_v0.02", download=True)

    where = "download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
    folder = _find(there, fetch if download else None, path, "Speech Commands", where, f"folders like {words[0]}")
    lists = [folder / name for name in ("validation_list.txt", "testing_list.txt")]
    present = [file for file in lists if file.is_file()]
    named = {line.strip() for file in present for line in file.read_text(encoding="utf-8").splitlines()}
    items = []
    for word in words:
        for file in sound_files(folder / word):
            name, speaker = f"{word}/{file.name}", file.name.partition("_nohash_")[0]
            held_out = name in named if present else None
            items.append(Recording(name, file, f"the word {word}", {"word": word}, held_out, speaker))
    return Listing.of(str(folder), items, heads={"word": words})


def list_ljspeech(path: str | Path, download: bool = False) -> Listing:
    """LJSpeech 1.1 (Ito and Johnson 2017): 13,100 sentences of one reader at 22,050 Hz.

    The captions are what she reads. `download` fetches it (2.6 GB) if it is not there.
    """
    path = Path(path)
    places = [path, path / "LJSpeech-1.1"]

    def there() -> Path | None:
        return next((place for place in places if (place / "metadata.csv").is_file()), None)

    def fetch() -> None:
        from torchaudio.datasets import LJSPEECH

        LJSPEECH(path, download=True)

    where = "data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2"
    folder = _find(there, fetch if download else None, path, "LJSpeech", where, "metadata.csv and wavs")
    items, bad = [], []
    for line in (folder / "metadata.csv").read_text(encoding="utf-8").splitlines():
        name, *texts = line.split("|")
        file = folder / "wavs" / f"{name}.wav"
        if not texts or not file.is_file():
            bad.append(BadItem(name, f"there is no wavs/{name}.wav" if texts else "it has no text"))
        else:
            items.append(Recording(name, file, (texts[-1] or texts[0]).strip(), {}))
    return Listing.of(str(folder), items, bad)


def _find(
    there: Callable[[], Path | None], fetch: Callable[[], None] | None, path: Path, title: str, where: str, what: str
) -> Path:
    """The folder of a set, downloaded if it is not there and may be."""
    if (found := there()) is not None:
        return found
    advice = f"unpack {where} and set data.path=<the folder with {what}>"
    if fetch is None:
        raise DataError(f"data.path={path} does not hold {title}; {advice}, or set data.download=true")
    path.mkdir(parents=True, exist_ok=True)
    try:
        fetch()
    except Exception as error:  # whatever the network, the archive and the disk raise: the answer is the same
        raise DataError(f"cannot download {title} ({type(error).__name__}: {error}); {advice}") from error
    if (found := there()) is None:
        raise DataError(f"the download of {title} left no {what} in {path}; {advice}")
    return found


class FsddData(ListedData):
    """The Free Spoken Digit Dataset in a folder: heads digit and speaker, its own test takes held out."""

    def __init__(
        self,
        path: str,
        rate: int = 8_000,
        seconds: float = 1.024,
        level: str = "peak",
        target_db: float | None = None,
        trim_db: float | None = None,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(list_fsdd, path),
            Preparation(rate, seconds, level, target_db, trim_db),
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )


class SpeechCommandsData(ListedData):
    """Speech Commands, by default its ten digits (SC09): head word.

    Without the set's own lists `held_out_share` of the speakers are held out.
    """

    def __init__(
        self,
        path: str,
        words: Sequence[str] = WORDS,
        download: bool = False,
        rate: int = 16_000,
        seconds: float = 1.024,
        level: str = "peak",
        target_db: float | None = None,
        trim_db: float | None = None,
        held_out_share: float = 0.1,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(list_speech_commands, path, words, download),
            Preparation(rate, seconds, level, target_db, trim_db),
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )


class LJSpeechData(ListedData):
    """LJSpeech: sentences with captions. Its longest clip has 10.1 s, so that the default crops none."""

    def __init__(
        self,
        path: str,
        download: bool = False,
        rate: int = 22_050,
        seconds: float = 10.24,
        level: str = "rms",
        target_db: float | None = None,
        trim_db: float | None = None,
        held_out_share: float = 0.05,
        max_bad_share: float = 0.05,
        skipped_path: str | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            partial(list_ljspeech, path, download),
            Preparation(rate, seconds, level, target_db, trim_db),
            held_out_share=held_out_share,
            max_bad_share=max_bad_share,
            skipped_path=skipped_path,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
