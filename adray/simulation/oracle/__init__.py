"""The verb `inspect` by the measuring oracle: what pictures are worth in the world that their products come from."""
