"""Video as a plugin of Diffract: short clips, described in words."""
