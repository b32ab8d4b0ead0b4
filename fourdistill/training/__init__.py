"""Distillation: the frozen base learns nothing, the adapter learns to steer it by the standard DDPM loss."""
