"""Patch code while other CPUs execute it, under a stated discipline, and see what they execute."""

__version__ = "0.1.0"
