"""What a creative means: encoders, contrastive refinement, attributes, retrieval and its quality gate."""
