"""One function a metric, each with its denominator."""
