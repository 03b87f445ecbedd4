"""Long jobs over a table: cut into items, done by a pool, each recorded when it is done, so that a rerun does what is missing."""
