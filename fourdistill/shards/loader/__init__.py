"""Reading shards from any location: listing, opening, ordering, decoding, and counting losses."""
