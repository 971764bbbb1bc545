"""From files and addresses to typed columns."""
