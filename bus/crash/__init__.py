"""The files that a crash, a hang or SIGQUIT leaves behind."""
