"""The embedding job: every creative's picture and copy into one vector, with its provenance beside it."""
