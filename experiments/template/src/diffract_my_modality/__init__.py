"""my_modality, a plugin of Diffract. Import nothing here: listing plugins must cost nothing."""
