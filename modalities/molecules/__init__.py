"""Molecules as a plugin of Diffract: atoms in space with explicit bonds, generated jointly."""
