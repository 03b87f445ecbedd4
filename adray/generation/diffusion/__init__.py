"""Training a generator: the denoising objective for a UNet and its ControlNet, from scratch or from a user's weights."""
