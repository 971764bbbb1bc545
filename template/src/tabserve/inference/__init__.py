"""The model file, and scoring whole tables with it."""
