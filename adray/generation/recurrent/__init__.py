"""Recurrent generation: pictures are made, inspected, and made again where they fail (Du et al., ECCV 2024)."""
