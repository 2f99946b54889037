"""Whole studies, with one command each: ``sb3-plastic study``."""
