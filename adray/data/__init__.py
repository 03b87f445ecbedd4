"""Tables in, batches out."""
