"""Studies: many samplers on many models, measured under one protocol, with what can be told apart and what cannot."""
