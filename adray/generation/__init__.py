"""Making product pictures with diffusion: generate, inspect, regenerate, and fine-tune on the inspector's feedback."""
