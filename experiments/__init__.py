"""The applications: thin programs around the framework, one a file, each callable from Python."""
