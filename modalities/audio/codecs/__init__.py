"""Codecs between clips of sound and the states that are diffused."""
