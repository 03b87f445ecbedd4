"""Which creative, for this user and SKU: the joint ranker, its halves, objectives and metrics."""
