"""Statistics of comparisons: functions of arrays, which know of no files, models or samplers."""
