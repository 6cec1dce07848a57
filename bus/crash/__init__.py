"""What a crash, a hang or SIGQUIT leaves behind."""
