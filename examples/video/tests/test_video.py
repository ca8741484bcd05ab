"""Video as a plugin: its rules, its files, the kit's checks, and what its network sees."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from diffract_video.backbone import SpaceTimeTransformer
from diffract_video.clips import COLOURS, DIRECTIONS, HELD_OUT, SUBJECTS, TRAINED, draw
from diffract_video.data import MovingShapes
from diffract_video.modality import Video
from diffract_video.rules import look, verdicts
from PIL import Image

from experiments.suite import ExperimentSuite
from framework.backbones.text import TextEncoder, WordTokenizer
from framework.conditions import TextCondition
from framework.editing.requests import Inpaint
from framework.errors import DataError, UserError
from framework.model import Model
from framework.parametrizations import Data
from framework.schedules import Flow
from framework.testing.subject import shaken

FRAMES, SIZE, BUCKETS, WORDS = 8, 16, 64, 8


def video() -> Video:
    return Video(TextCondition(WordTokenizer(BUCKETS, WORDS)), FRAMES, SIZE)


def network() -> SpaceTimeTransformer:
    torch.manual_seed(0)
    text = TextEncoder(width=16, layers=1, heads=2, buckets=BUCKETS, length=WORDS)
    return SpaceTimeTransformer(text, width=32, layers=1, heads=2)


@pytest.fixture(scope="module")
def clips() -> np.ndarray:
    return draw(SUBJECTS, np.arange(len(SUBJECTS)), 0, "test", FRAMES, SIZE)


def test_the_rules_see_what_was_drawn_also_in_noise(clips):
    captions = [str(subject) for subject in SUBJECTS]
    noisy = np.clip(clips + np.random.default_rng(0).normal(0, 10, clips.shape), 0, 255).astype(np.uint8)
    for shown in (clips, noisy):
        assert all(values.min() == 1 for values in verdicts(shown, captions).values())


def test_the_rules_see_what_is_wrong(clips):
    for i, subject in enumerate(SUBJECTS):
        for field, words in (("colour", COLOURS), ("direction", DIRECTIONS)):
            other = next(word for word in words if word != getattr(subject, field))
            wrong = verdicts(clips[i : i + 1], [str(subject._replace(**{field: other}))])
            assert wrong[field][0] == 0 and wrong["all"][0] == 0 and wrong["shape"][0] == 1
    still, shuffled = np.repeat(clips[:, :1], FRAMES, 1), clips[:, [3, 0, 7, 1, 5, 2, 6, 4]]
    assert all(look(clip).direction is None for clip in still)
    assert not any(look(clip).one_object for clip in shuffled)
    twice = np.maximum(clips, clips[:, :, :, ::-1])
    apart = [i for i, s in enumerate(SUBJECTS) if s.direction in ("up", "down")]
    assert sum(look(twice[i]).one_object for i in apart) < len(apart) / 2, "a thing and its mirror image are two"
    noise = np.random.default_rng(0).integers(0, 256, clips.shape).astype(np.uint8)
    assert all(value.sum() == 0 for value in verdicts(noise, [str(s) for s in SUBJECTS]).values())


def test_captions_that_are_held_out_are_not_trained_on():
    data = MovingShapes(train_length=400, validation_length=8)
    data.setup()
    assert len(HELD_OUT) + len(TRAINED) == len(SUBJECTS) == 72 and HELD_OUT
    shown = {item["caption"] for item in data.train_set}  # type: ignore[attr-defined]
    assert shown <= set(map(str, TRAINED)) and not shown & set(data.prompts(50, 0))
    with pytest.raises(ValueError, match="frames"):
        MovingShapes(frames=2)


class TestToy(ExperimentSuite):
    """The kit, one test a check."""

    experiment = "video/toy"
    overrides = (
        *("data.train_length=64", "data.validation_length=64", "data.batch_size=8"),
        *("backbone.width=32", "backbone.heads=2", "backbone.layers=1"),
    )
    thorough = True


def test_a_frame_sees_others_through_time_and_space():
    """A patch reaches its own place in all frames by the blocks over time, and all places by both kinds."""
    modality, net = video(), shaken(network()).eval()
    x = torch.randn(1, FRAMES, 3, SIZE, SIZE).requires_grad_()
    net(x, torch.full((1,), 300.0), modality.parse(["a red ball moving up"]))[0, 0, :, 0, 0].sum().backward()
    assert bool((x.grad[0, -1].abs().sum(0) > 0).all()), "even the far corner of the last frame"
    text = [net(x, torch.full((1,), 300.0), modality.parse([f"a red ball moving {way}"])) for way in ("up", "down")]
    assert float((text[0] - text[1]).detach().abs().max()) > 1e-3
    with pytest.raises(UserError, match="squares"):
        net(torch.randn(1, 2, 3, 18, 18), torch.zeros(1), modality.parse([""]))


def test_a_clip_comes_back_from_its_gif(clips, tmp_path):
    modality = video()
    files = modality.render(torch.from_numpy(clips[:3]), ["a", "b", None], tmp_path, [{"prompt": "a", "seed": "0"}] * 3)
    assert files[-1].name == "sheet.png"
    mp4 = importlib.util.find_spec("imageio_ffmpeg") is not None
    assert sum(file.suffix == ".mp4" for file in files) == (3 if mp4 else 0)
    gifs = [file for file in files if file.suffix == ".gif"]
    for clip, file in zip(clips, gifs, strict=False):
        again = modality.read(file)["video"][0].numpy()
        assert np.array_equal(again, clip)
        assert modality.told(file)["seed"] == "0"
    still = torch.from_numpy(np.repeat(clips[:1, :1], FRAMES, 1))
    modality.render(still, [None], tmp_path / "still", [{}])
    assert modality.read(tmp_path / "still" / "00000.gif")["video"].shape == (1, FRAMES, 3, SIZE, SIZE)


def test_what_is_no_clip_is_refused(tmp_path):
    modality = video()
    short = tmp_path / "short.gif"
    Image.new("RGB", (16, 16)).save(short)
    for file, words in ((short, "shows 1 frames"), (tmp_path / "absent.gif", "cannot be read")):
        with pytest.raises(DataError, match=words):
            modality.read(file)
    assert modality.told(short) is None


def test_the_first_frames_of_a_file_stay(clips, tmp_path):
    modality = video()
    model = Model(modality, network(), Flow(), Data())
    [file, _] = [f for f in modality.render(torch.from_numpy(clips[:1]), [None], tmp_path, [{}]) if f.suffix != ".mp4"]
    tasks = Inpaint(str(file), keep="frames=0-3", resampling=1).tasks(modality)
    made = model.sample("a red ball moving left", n=2, steps=4, tasks=tasks).samples
    given = modality.read(file)["video"][0]
    for clip in made:
        assert int((clip[:3].int() - given[:3].int()).abs().max()) <= 1
        assert not torch.equal(clip[3:], given[3:])
    with pytest.raises(UserError, match="frames=A-B"):
        Inpaint(str(file), keep="the first").tasks(modality)
