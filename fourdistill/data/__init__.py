"""From raw captures to batches: readers, frames, pairs, features, shards and the loader."""
