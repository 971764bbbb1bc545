"""The tasks of the command line, a module each; it is imported when the task runs."""
