"""Shared by every training: devices, logs, checkpoints, and a clean shutdown."""
