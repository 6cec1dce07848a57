"""What the operating system lends: files and their names, streams, forks, the terminal."""
