"""Inspect a folder of raw data: facts and a figure."""
