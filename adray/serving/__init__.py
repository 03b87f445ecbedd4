"""The live endpoints, on Ray Serve."""
