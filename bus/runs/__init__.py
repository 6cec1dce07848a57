"""A run's folder: what it holds, how it is found, which attempts of it count."""
