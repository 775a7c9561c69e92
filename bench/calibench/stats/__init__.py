"""Ends of intervals, resampling, bootstrap and ratios: numbers in, numbers out."""
