"""From a table to a contract."""
