"""Is a generated product picture fit to publish: RFNet, its maps, its data, and the baselines it is held against."""
