"""Codecs: exact where they claim it, blind to padding, faithful to level and pitch, and honest about their settings."""

import copy
import dataclasses
import importlib.util
import math
import pickle
import sys

import pytest
import torch

from framework.errors import UserError
from modalities.audio.codecs.filterbank import MelProfile, _filters, magnitudes
from modalities.audio.codecs.log_mel import LogMel
from modalities.audio.codecs.mdct import MDCT
from modalities.audio.codecs.stft import QUIET, ComplexSTFT, Framing, compress, expand, hann, sine
from modalities.audio.codecs.vocoders import AUDIOLDM_16K, BigVGAN, SpeechT5HifiGan, Vocoder, Vocos
from modalities.audio.distances import log_spectral_distance
from modalities.audio.waveforms import Waveforms

EXACT = [
    ComplexSTFT(),
    ComplexSTFT(n_fft=254, hop=64, power=0.3),
    ComplexSTFT(n_fft=256, hop=96),
    MDCT(),
    MDCT(bands=64),
]
LOSSY = [LogMel(), LogMel(n_fft=256, hop=64), LogMel(lead=256), LogMel(rate=16000, n_fft=1024, hop=160, high=7600)]
EVERY = EXACT + LOSSY
name = repr


def noise(batch=3, samples=4096, seed=0):
    return 0.3 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def voiced(samples=8192, rate=8000, pitch=120.0):
    """A gliding pulse train with three formants that fades in and out: like a vowel."""
    time = torch.arange(samples).double() / rate
    phase = 2 * math.pi * (pitch * time + 15 * time**2)
    harmonics = torch.arange(1, 28).double()[:, None]
    frequency = harmonics * (pitch + 30 * time)
    gain = sum(1 / (1 + ((frequency - centre) / width) ** 2) for centre, width in ((700, 90), (1200, 110), (2600, 170)))
    signal = (gain * torch.sin(harmonics * phase)).sum(0) * torch.sin(math.pi * time / time[-1]) ** 2
    return (0.9 * signal / signal.abs().max()).float()[None]


def clips_of(codec, lengths, seed=0):
    length = torch.tensor(lengths)
    waveform = noise(len(lengths), max(lengths), seed)
    return torch.where(torch.arange(max(lengths)) < length[:, None], waveform, 0.0), length


@pytest.mark.parametrize("codec", EXACT, ids=name)
@pytest.mark.parametrize("samples", [1, 127, 1000, 4096])
def test_perfect_reconstruction(codec, samples):
    for waveform in (noise(samples=samples), voiced(samples=samples + 1)[:, :samples].repeat(3, 1)):
        decoded = codec.decode(codec.encode(waveform), torch.full((3,), samples))
        assert (decoded[:, :samples] - waveform).abs().max() < 1e-5
        assert (decoded[:, samples:] == 0).all()


@pytest.mark.parametrize("codec", EXACT, ids=name)
def test_perfect_reconstruction_of_clips_whose_padding_is_masked(codec):
    """A clip's last frames overlap the padding; frames that are not its own are not needed to restore it."""
    waveform, length = clips_of(codec, [4096, 1000, 1001, 5])
    x = codec.encode(waveform)
    real = torch.arange(x.shape[1]) < torch.tensor([codec.frames(int(n)) for n in length])[:, None]
    masked = torch.where(real[..., None, None], x, 7.0)
    assert (codec.decode(masked, length)[:, :4096] - waveform).abs().max() < 1e-5


@pytest.mark.parametrize("codec", [MDCT(power=1.0, std=1.0), ComplexSTFT(power=1.0, std=1.0)], ids=name)
def test_energy_is_the_clips(codec):
    """Parseval, away from the edges; a real DFT says each inner frequency once and means it twice."""
    waveform = torch.nn.functional.pad(noise(), (256, 256))
    x = codec.encode(waveform)
    weight = torch.full((codec.bands,), float(codec.channels))
    weight[0] = 1.0
    energy = (x.square() * weight).sum((1, 2, 3))
    torch.testing.assert_close(energy, waveform.square().sum(1), rtol=1e-5, atol=0)


def test_mdct_is_critically_sampled():
    assert MDCT().encode(noise(1, 8192)).numel() == 8192


@pytest.mark.parametrize("codec", EVERY, ids=name)
@pytest.mark.parametrize("samples", [1, 63, 64, 65, 127, 128, 129, 999])
def test_arithmetic_of_frames(codec, samples):
    frames = codec.frames(samples)
    assert codec.samples(frames - 1) < samples <= codec.samples(frames)
    x = codec.encode(noise(2, samples))
    assert x.shape == (2, frames, codec.channels, codec.bands) and x.dtype == torch.float32
    assert codec.decode(x, torch.tensor([samples, 1])).shape == (2, codec.samples(frames))


def test_8192_samples_are_64_frames_of_the_default():
    assert LogMel().encode(noise(1, 8192)).shape == (1, 64, 1, 64)
    assert ComplexSTFT().encode(noise(1, 8192)).shape == (1, 128, 2, 64)
    assert MDCT().encode(noise(1, 8192)).shape == (1, 64, 1, 128)


@pytest.mark.parametrize("codec", EVERY, ids=name)
def test_a_clip_does_not_depend_on_its_batch(codec):
    waveform, length = clips_of(codec, [4000, 1500, 700])
    together = codec.encode(waveform)
    decoded = codec.decode(together, length)
    for i, n in enumerate(length):
        alone = codec.encode(waveform[i : i + 1, :n])
        torch.testing.assert_close(together[i, : alone.shape[1]], alone[0], rtol=0, atol=2e-4)
        again = codec.decode(alone, length[i : i + 1])
        torch.testing.assert_close(decoded[i, :n], again[0, :n], rtol=0, atol=2e-3)
        assert (decoded[i, n:] == 0).all()


@pytest.mark.parametrize("codec", EVERY, ids=name)
def test_decoding_is_deterministic(codec):
    x = torch.randn(2, 10, codec.channels, codec.bands)
    length = torch.tensor([10 * codec.hop, 3 * codec.hop])
    assert torch.equal(codec.decode(x, length), codec.decode(x.clone(), length))


@pytest.mark.parametrize("codec", EVERY, ids=name)
def test_any_state_decodes_to_finite_sound(codec):
    x = 1000 * torch.randn(2, 10, codec.channels, codec.bands)
    assert codec.decode(x, torch.tensor([10 * codec.hop, 0])).isfinite().all()


@pytest.mark.parametrize("codec", EVERY, ids=name)
def test_gradients_flow_through_encode(codec):
    """Also from the zeros of the padding, and with tables that were first made in inference mode."""
    _filters.cache_clear()
    hann.cache_clear()
    sine.cache_clear()
    with torch.inference_mode():
        codec.encode(noise(1, 600))
    waveform = torch.nn.functional.pad(noise(1, 600), (0, 600)).requires_grad_()
    codec.encode(waveform).square().sum().backward()
    assert waveform.grad.isfinite().all() and (waveform.grad[:, :600] != 0).any()


@pytest.mark.parametrize("codec", EVERY, ids=name)
def test_a_quieter_clip_decodes_quieter(codec):
    waveform = voiced(rate=codec.rate)
    loud, quiet = (codec.decode(codec.encode(g * waveform), torch.tensor([8192])) for g in (1.0, 0.1))
    difference = 10 * math.log10(float(loud.square().sum() / quiet.square().sum()))
    assert difference == pytest.approx(20, abs=0.2)
    assert abs(20 * math.log10(float(loud.norm() / waveform.norm()))) < 2.5


@pytest.mark.parametrize("codec", EVERY, ids=name)
@pytest.mark.parametrize("share", [0.1, 0.37, 0.8])
def test_a_tone_lands_in_the_band_of_its_frequency(codec, share):
    frequency = share * float(codec.frequencies[-1])
    tone = torch.sin(2 * math.pi * frequency * torch.arange(8192) / codec.rate)[None]
    features = codec.analyse(tone)[0, 20:-20]
    loudest = int((features.mean((0, 1)) if isinstance(codec, LogMel) else features.square().mean((0, 1))).argmax())
    gaps = (codec.frequencies - frequency).abs()
    assert gaps[loudest] <= gaps.sort().values[1] + 1e-3


def test_a_full_scale_sine_reads_at_most_zero_db_and_some_sine_reads_it():
    codec = LogMel()
    bins = torch.arange(1, 256) * codec.rate / codec.n_fft
    tones = torch.sin(2 * math.pi * bins[:, None] * torch.arange(2048) / codec.rate + 0.3)
    assert float(codec.analyse(tones)[:, 3:-3].max()) == pytest.approx(1, abs=1e-4)
    assert float(codec.analyse(torch.zeros(1, 512)).max()) == -1


def test_mel_round_trip_of_a_vowel():
    """Within 30 dB of its peaks; without phases, or with those of another clip, it costs more than that."""
    waveform, length = voiced(), torch.tensor([8192])
    clips = Waveforms(waveform, length, 8000)
    for codec in (LogMel(), LogMel(n_fft=256, hop=64)):
        unphased = dataclasses.replace(codec, iterations=0)
        passed = [Waveforms(c.decode(c.encode(waveform), length), length, 8000) for c in (codec, unphased)]
        good, bad = (float(log_spectral_distance(one, clips, floor_db=30.0)) for one in passed)
        assert good < 3.5 < bad


def test_statistics_standardise_real_frames_alone():
    waveform, length = clips_of(LogMel(), [8000, 300, 2000])
    for plain in (LogMel(), ComplexSTFT(), MDCT()):
        mean, std = plain.statistics(Waveforms(waveform, length, 8000))
        codec = dataclasses.replace(plain, mean=mean, std=std)
        x = codec.encode(waveform)
        real = x[torch.arange(x.shape[1]) * codec.hop < length[:, None]]
        assert real.mean() == pytest.approx(0, abs=1e-3) and real.std() == pytest.approx(1, abs=1e-3)
        far = torch.nn.functional.pad(waveform, (0, 5000))
        assert plain.statistics(Waveforms(far, length, 8000)) == pytest.approx((mean, std), abs=1e-6)


def test_statistics_refuse_what_has_none():
    with pytest.raises(UserError, match="16000 Hz"):
        LogMel().statistics(Waveforms(noise(), torch.tensor([4096] * 3), 16000))
    with pytest.raises(UserError, match="silent"):
        LogMel().statistics(Waveforms(torch.zeros(2, 999), torch.tensor([999, 999]), 8000))
    with pytest.raises(UserError, match="need clips"):
        LogMel().statistics(Waveforms(torch.zeros(0, 9), torch.zeros(0, dtype=torch.int64), 8000))


CHANGES = [
    (LogMel(), dict(rate=8001, n_fft=640, hop=64, bands=63, floor_db=60.0, low=20.0, high=3900.0, scale="htk",
                    norm=None, lead=256, mean=0.0, std=1.0, iterations=8, momentum=0.5)),
    (ComplexSTFT(), dict(rate=8001, n_fft=254, hop=32, power=0.4, mean=0.1, std=1.0)),
    (MDCT(), dict(rate=8001, bands=64, power=0.4, mean=0.1, std=1.0)),
]  # fmt: skip


@pytest.mark.parametrize("codec, changes", CHANGES, ids=lambda value: type(value).__name__)
def test_fingerprint_knows_every_setting(codec, changes):
    untouched = {field.name for field in dataclasses.fields(codec)} - set(changes)
    assert untouched <= {"vocoder"}  # below
    prints = [dataclasses.replace(codec, **{key: value}).fingerprint() for key, value in changes.items()]
    assert len({codec.fingerprint(), *prints}) == 1 + len(changes)
    assert dataclasses.replace(codec, rate=float(codec.rate)).fingerprint() == codec.fingerprint()


def test_fingerprint_knows_the_kind_and_what_none_means():
    assert ComplexSTFT().fingerprint() != MDCT().fingerprint() != LogMel().fingerprint()
    assert LogMel(high=4000, lead=192).fingerprint() == LogMel().fingerprint()


@pytest.mark.parametrize("codec", EVERY, ids=name)
def test_a_codec_is_a_value(codec):
    codec.encode(noise())
    for other in (copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):
        assert other == codec and other.fingerprint() == codec.fingerprint()
        assert torch.equal(other.encode(noise()), codec.encode(noise()))


def test_compression_is_inverted_down_to_nothing():
    size = torch.logspace(-9, 1, 200, dtype=torch.float64)
    for z in (size, -size, torch.polar(size, torch.linspace(-3, 3, 200, dtype=torch.float64)), torch.zeros(1)):
        torch.testing.assert_close(expand(compress(z, 0.3), 0.3), z, rtol=1e-9, atol=0)
    assert float(compress(torch.tensor(0.25), 0.5)) == pytest.approx(0.5)
    torch.testing.assert_close(compress(torch.tensor(0.5 * QUIET), 0.5), torch.tensor(0.5 * QUIET**0.5))


def test_framing_adds_what_it_splits():
    """Each sample comes back as often as frames hold it."""
    for framing in (Framing(8, 4, 2), Framing(8, 3, 1), Framing(9, 2, 5)):
        waveform = noise(2, 4 * framing.hop + 1).double()
        frames = framing.split(waveform)
        back = framing.crop(framing.add(frames))
        held = framing.crop(framing.add(framing.split(torch.ones_like(waveform))))
        padded = torch.nn.functional.pad(waveform, (0, back.shape[1] - waveform.shape[1]))
        torch.testing.assert_close(back, padded * held)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@pytest.mark.parametrize("norm", ["slaney", None])
def test_filters_are_those_of_torchaudio(scale, norm):
    functional = pytest.importorskip("torchaudio").functional
    for n_fft, bands, low, high in ((512, 64, 0.0, 4000.0), (1024, 100, 50.0, 3800.0)):
        profile = MelProfile(8000, n_fft, 128, bands, low, high, scale, norm, 192)
        theirs = functional.melscale_fbanks(n_fft // 2 + 1, low, high, bands, 8000, norm, scale).T
        torch.testing.assert_close(profile.filters(), theirs, rtol=0, atol=1e-4 * float(theirs.max()))


def test_magnitudes_read_as_they_should_and_scale():
    codec = LogMel()
    filters = codec.profile.filters()
    truth = torch.rand(5, 257, generator=torch.Generator().manual_seed(0)) ** 4
    mel = truth @ filters.T
    found = magnitudes(mel, filters)
    assert (found >= 0).all()
    assert (20 * torch.log10(found @ filters.T / mel)).abs().mean() < 0.3
    torch.testing.assert_close(magnitudes(1e-3 * mel, filters), 1e-3 * found)


BAD = [
    (lambda: LogMel(n_fft=256, bands=80), "share too few frequency bins at n_fft=256.*choose bands="),
    (lambda: LogMel(high=5000.0), "half the rate"),
    (lambda: LogMel(scale="bark"), "slaney, htk"),
    (lambda: LogMel(hop=300), "hop from 1 to 256"),
    (lambda: LogMel(lead=0), "choose lead=192"),
    (lambda: LogMel(momentum=1.0), "momentum"),
    (lambda: LogMel(floor_db=0.0), "floor_db"),
    (lambda: LogMel(std=0.0), "std"),
    (lambda: ComplexSTFT(n_fft=127), "even"),
    (lambda: ComplexSTFT(power=0.0), "power"),
    (lambda: MDCT(bands=63), "even"),
    (lambda: MDCT(power=1.5), "power"),
]


@pytest.mark.parametrize("make, message", BAD)
def test_settings_that_cannot_be_met_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_the_number_of_bands_that_is_advised_works():
    with pytest.raises(UserError) as caught:
        LogMel(n_fft=256, bands=80)
    most = int(str(caught.value).split("bands=")[1].split()[0])
    assert LogMel(n_fft=256, bands=most).bands == most
    with pytest.raises(UserError):
        LogMel(n_fft=256, bands=most + 1)


def test_states_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="1, 64"):
        LogMel().decode(torch.zeros(2, 8, 1, 32), torch.tensor([9, 9]))
    with pytest.raises(ValueError, match="needs 9 frames"):
        LogMel().decode(torch.zeros(1, 8, 1, 64), torch.tensor([8 * 128 + 1]))


@dataclasses.dataclass(frozen=True)
class Hum(Vocoder):
    """A tone that is as loud as the frame's loudest band; short by one frame, as some vocoders are."""

    mel: MelProfile

    @property
    def profile(self):
        return self.mel

    def __call__(self, mel):
        return mel.amax(2).repeat_interleave(self.mel.hop, 1)[:, : -self.mel.hop]


def test_a_vocoder_takes_the_place_of_griffin_lim():
    codec = LogMel(vocoder=Hum(LogMel().profile))
    x = torch.full((2, 8, 1, 64), (1 - codec.mean) / codec.std)
    waveform = codec.decode(x, torch.tensor([8 * 128, 200]))
    torch.testing.assert_close(waveform[0, : 7 * 128], torch.full((7 * 128,), codec.reference))
    assert (waveform[0, 7 * 128 :] == 0).all() and (waveform[1, 200:] == 0).all() and (waveform[1, :200] > 0).all()
    assert codec.fingerprint() != LogMel().fingerprint()


def test_a_vocoder_of_another_mel_is_refused_with_what_to_set():
    with pytest.raises(UserError, match=r"hop=64 \(is 128\), low=20.0 \(is 0.0\)"):
        LogMel(vocoder=Hum(dataclasses.replace(LogMel().profile, hop=64, low=20.0)))


def codec_for(vocoder):
    p = vocoder.profile
    return LogMel(p.rate, p.n_fft, p.hop, p.bands, 100.0, p.low, p.high, p.scale, p.norm, p.lead, vocoder=vocoder)


@pytest.fixture
def hifigan(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.SpeechT5HifiGanConfig(
        model_in_dim=64, sampling_rate=16000, upsample_initial_channel=16, upsample_rates=[5, 4, 4, 2],
        upsample_kernel_sizes=[10, 8, 8, 4], resblock_kernel_sizes=[3], resblock_dilation_sizes=[[1, 3]],
    )  # fmt: skip
    network = transformers.SpeechT5HifiGan(config)
    network.save_pretrained(tmp_path)
    return network.eval(), str(tmp_path)


def test_speecht5_hifigan_hears_the_mel_that_audioldm_was_trained_on(hifigan):
    """The whole path against the network on a mel spectrogram that is computed here from its definition."""
    network, path = hifigan
    codec = codec_for(SpeechT5HifiGan(path))
    waveform = noise(1, 3200)
    spectrum = torch.stft(waveform, 1024, 160, window=torch.hann_window(1024), pad_mode="constant", return_complex=True)
    mel = codec.profile.filters() @ spectrum.abs()[:, :, :20]
    with torch.no_grad():
        expected = network(mel.clamp_min(1e-5).log().transpose(1, 2))
    decoded = codec.decode(codec.encode(waveform), torch.tensor([3200]))
    assert decoded.shape == (1, 3200) and expected.std() > 0
    torch.testing.assert_close(decoded, expected[:, :3200], rtol=1e-3, atol=1e-5)
    assert copy.deepcopy(codec) == codec
    assert SpeechT5HifiGan(path).profile == AUDIOLDM_16K


def test_a_network_that_says_otherwise_than_its_profile_is_refused(hifigan):
    _, path = hifigan
    vocoder = SpeechT5HifiGan(path, dataclasses.replace(AUDIOLDM_16K, rate=8000, high=4000.0))
    with pytest.raises(UserError, match="rate=16000, and its profile says 8000"):
        vocoder(torch.ones(1, 4, 64))


def test_a_folder_without_a_network_is_refused(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="no SpeechT5HifiGan in"):
        SpeechT5HifiGan(str(tmp_path))(torch.ones(1, 4, 64))


@pytest.mark.parametrize("kind, package", [(Vocos, "vocos"), (BigVGAN, "bigvgan"), (SpeechT5HifiGan, "transformers")])
def test_a_missing_package_is_named(kind, package, monkeypatch, tmp_path):
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    codec = codec_for(kind(str(tmp_path)))  # declaring it costs nothing
    with pytest.raises(UserError, match=f"pip install {package}"):
        codec.decode(torch.zeros(1, 2, 1, codec.bands), torch.tensor([100]))


def installed(*packages):
    return all(importlib.util.find_spec(package) for package in packages)


@pytest.mark.skipif(not installed("vocos", "encodec", "torchaudio"), reason="vocos is not installed")
def test_vocos_from_a_folder(tmp_path):
    import yaml
    from vocos.pretrained import Vocos as Theirs

    def part(name, **arguments):
        return {"class_path": f"vocos.{name}", "init_args": arguments}

    features = part("feature_extractors.MelSpectrogramFeatures", sample_rate=24000, n_fft=1024, hop_length=256,
                    n_mels=100, padding="center")  # fmt: skip
    config = {
        "feature_extractor": features,
        "backbone": part("models.VocosBackbone", input_channels=100, dim=16, intermediate_dim=16, num_layers=1),
        "head": part("heads.ISTFTHead", dim=16, n_fft=1024, hop_length=256, padding="center"),
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    theirs = Theirs.from_hparams(str(tmp_path / "config.yaml")).eval()
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    codec = dataclasses.replace(codec_for(Vocos(str(tmp_path))), floor_db=220.0)
    waveform = torch.nn.functional.pad(noise(1, 2560), (1024, 1024 + 512))
    decoded = codec.decode(codec.encode(waveform), torch.tensor([waveform.shape[1]]))
    torch.testing.assert_close(decoded, theirs(waveform), rtol=1e-3, atol=1e-4)
    config["head"]["class_path"] = "os.system"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="no part of vocos"):
        Vocos(str(tmp_path))(torch.ones(1, 4, 100))


@pytest.mark.skipif(not installed("bigvgan", "librosa"), reason="bigvgan is not installed")
def test_bigvgan_from_a_folder(tmp_path):
    import json

    from bigvgan.bigvgan import AttrDict
    from bigvgan.bigvgan import BigVGAN as Theirs

    settings = {
        "resblock": "1", "upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4],
        "upsample_initial_channel": 16, "resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]],
        "activation": "snakebeta", "snake_logscale": True, "num_mels": 80, "n_fft": 1024, "hop_size": 256,
        "sampling_rate": 22050, "fmin": 0, "fmax": None,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(settings))
    theirs = Theirs(AttrDict(settings))
    torch.save({"generator": theirs.state_dict()}, tmp_path / "bigvgan_generator.pt")
    mel = 0.1 * noise(1, 800).abs().reshape(1, 10, 80)
    with torch.no_grad():
        expected = theirs(mel.clamp_min(1e-5).log().transpose(1, 2))[:, 0]
    torch.testing.assert_close(BigVGAN(str(tmp_path))(mel), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("codec", EVERY, ids=name)
def test_a_device_changes_nothing(codec):
    waveform, length = clips_of(codec, [4000, 1500])
    x = codec.encode(waveform)
    there = codec.encode(waveform.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), x, rtol=0, atol=1e-3)
    decoded = codec.decode(there, length.cuda())
    assert decoded.is_cuda
    if codec in EXACT:
        torch.testing.assert_close(decoded.cpu()[:, :4000], waveform, rtol=0, atol=1e-5)
