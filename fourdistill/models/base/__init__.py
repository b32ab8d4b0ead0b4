"""Finding, checking and loading the frozen base, its image encoder and its IP-Adapter."""
