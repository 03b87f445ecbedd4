"""Is an embedding any good: retrieval metrics, splits, near-duplicates, the gate."""
