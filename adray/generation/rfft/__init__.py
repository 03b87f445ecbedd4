"""RFFT: the ControlNet fine-tuned on the inspector's feedback (Du et al., ECCV 2024, section 4)."""
