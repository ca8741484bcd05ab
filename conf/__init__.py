"""The configuration tree; an installed Diffract has it at `framework/conf`, so that no user's conf/ shadows it."""
