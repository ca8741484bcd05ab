"""Text as a plugin of Diffract: sequences of words or characters by masked diffusion."""
