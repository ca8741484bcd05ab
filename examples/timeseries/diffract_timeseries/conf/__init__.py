"""The configuration that time series bring along, found through an entry point."""
