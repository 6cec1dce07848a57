"""The board: a page in the browser on which people look at runs, live and recorded."""
