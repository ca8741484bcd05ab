"""The configuration that text brings along, found through an entry point."""
