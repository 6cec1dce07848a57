"""A folder for ``PYTHONPATH``: stands for Lightning in the processes that are started with it."""
