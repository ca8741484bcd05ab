"""The configuration that images bring along: experiments, data sets, backbones. Found through an entry point."""
