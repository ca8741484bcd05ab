"""Point clouds of 3-D shapes, as a plugin of Diffract."""
