"""Running any verb on a remote cluster, over Ray Jobs."""
