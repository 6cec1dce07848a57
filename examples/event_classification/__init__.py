"""Classification of event-camera recordings, trained on streams: a whole application on nightbus.

python -m examples.event_classification --help
"""
