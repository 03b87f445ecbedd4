"""The verb `inspect` by a trained inspector: a verdict on every picture of a table."""
