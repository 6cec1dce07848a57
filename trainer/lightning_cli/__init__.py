"""Command lines and configuration files made of the signatures of modules and of the Trainer."""
