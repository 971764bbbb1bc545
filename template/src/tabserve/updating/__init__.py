"""Updates of the template: what they would do, and doing it, by throw-away commits."""
