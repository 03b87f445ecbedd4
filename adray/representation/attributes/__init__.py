"""What can be read off a creative: colours, texts, logos, entities, the offer, whom it is for."""
