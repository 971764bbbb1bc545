"""New data compared with the contract and the training data."""
