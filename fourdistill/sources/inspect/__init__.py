"""What is in a folder of raw data: figures and a picture."""
