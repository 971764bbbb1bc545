"""The tasks, a module each; it is imported when the task runs."""
