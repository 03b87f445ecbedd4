"""Contrastive training of encoders: InfoNCE over all workers' rows."""
