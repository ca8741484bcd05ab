"""my_modality, a plugin of Diffract. Listing plugins imports this: keep it empty."""
