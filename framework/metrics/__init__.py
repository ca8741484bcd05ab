"""Metrics of sets of features (N, D); no modality in them.

`frechet` and `kernel` compare distributions, `precision_recall` their supports, `intervals` says how sure a
number is, and `measurement` is what is written down. Only the last is imported here: it is in the plugin
contract, the others need SciPy.
"""

from .measurement import Measurement, read_metrics, table, write_metrics

__all__ = ["Measurement", "read_metrics", "table", "write_metrics"]
