"""Parts of a clip in words: spans of time and of frequency.

    time=0.2-0.5     frames that lie inside, in seconds from the clip's beginning
    below=2000       bands whose centre is below, in Hz
    above=500        bands whose centre is above

Several of them hold together ("time=0-0.3 below=2000" is both); no words name every real frame.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from framework.errors import UserError
from modalities.audio.codecs.codec import Codec

NUMBER = r"([0-9]*\.?[0-9]+)"
WORDS = {
    "time": re.compile(rf"time={NUMBER}-{NUMBER}"),
    "below": re.compile(rf"below={NUMBER}"),
    "above": re.compile(rf"above={NUMBER}"),
}


def frames_and_bands(text: str, mask: Tensor, codec: Codec) -> Tensor:
    """The region as bool (B, L, 1, F), within the real frames of mask (B, L).

    Raises:
        UserError: a word that is none of these, or a region in which nothing lies.
    """
    frames = torch.arange(mask.shape[1], device=mask.device)
    time = (frames + 0.5) * codec.hop / codec.rate
    frequencies = codec.frequencies.to(mask.device)
    inside, bands = mask.clone(), torch.ones_like(frequencies, dtype=torch.bool)
    for word in text.replace(",", " ").split():
        if found := WORDS["time"].fullmatch(word):
            inside &= (time >= float(found[1])) & (time < float(found[2]))
        elif found := WORDS["below"].fullmatch(word):
            bands &= frequencies < float(found[1])
        elif found := WORDS["above"].fullmatch(word):
            bands &= frequencies > float(found[1])
        else:
            raise UserError(f"unknown region {word!r}; regions are time=0.2-0.5 (s), below=2000 and above=500 (Hz)")
    region = inside[:, :, None, None] & bands
    if not bool(region.any()):
        seconds = float(mask.sum(1).max()) * codec.hop / codec.rate
        raise UserError(f"nothing lies in the region {text!r} of a clip of {seconds:.2f} s and {codec.rate // 2} Hz")
    return region
