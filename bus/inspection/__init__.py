"""What the verbs of the command line ask of a log or a run."""
