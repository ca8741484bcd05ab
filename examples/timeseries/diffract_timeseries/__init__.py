"""Multivariate time series with missing values, as a plugin of Diffract."""
