"""The configuration that video brings along, found through an entry point."""
