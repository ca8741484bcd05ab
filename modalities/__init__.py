"""The kinds of data that Diffract ships with; each is a plugin like any other."""
