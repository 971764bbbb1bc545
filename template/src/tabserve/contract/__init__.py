"""What columns mean, which values are allowed: the data contract."""
