"""The frozen base: found, checked and loaded, with its image encoder and its IP-Adapter."""
