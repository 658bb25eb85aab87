"""What a training computes: network, patches, loss and validation. The loop around them is the same."""
