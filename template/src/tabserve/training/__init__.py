"""From a table and a contract to a checked model file and a report."""
