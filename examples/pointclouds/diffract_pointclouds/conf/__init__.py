"""The configuration that point clouds bring along, found through an entry point."""
