"""A simulated marketplace whose truth is known: products, creatives, users with tastes, and a logging policy."""
