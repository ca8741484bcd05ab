"""Audio: clips, spectrograms and other codecs, backbones, metrics and pages to listen to."""
