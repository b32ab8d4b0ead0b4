"""What every training needs: devices, logs, checkpoints, and an end in good order."""
