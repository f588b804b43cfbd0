"""Readers of the raw files of data sets, one module a format."""
