"""Images: data, conditions, backbones, metrics and pictures."""
