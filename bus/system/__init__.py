"""Services of the operating system: files and their names, streams, forks, the terminal."""
