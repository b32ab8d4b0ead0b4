"""Reading shards from wherever they lie: listing, opening, order, decoding, and the account of what was lost."""
