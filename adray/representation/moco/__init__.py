"""MoCo v3: representation learning from two views, with a momentum network as the target."""
