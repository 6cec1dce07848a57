"""python -m examples.event_classification: make recordings, train, evaluate, look."""

import sys

from examples.event_classification.command_line import main

if __name__ == "__main__":
    sys.exit(main())
