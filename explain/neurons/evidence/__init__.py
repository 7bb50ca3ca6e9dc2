"""What speaks for an explanation: held-out images, chance, resampled images, other scores."""
