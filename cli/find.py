"""The description of a verb's argument RUN."""

RUN_HELP = (
    "the run's folder or anything inside it; or below ./runs, its id, the beginning of its id, its "
    "name, or the word last for the one started or resumed last"
)
LAST_EVENTS_HELP = f"{RUN_HELP}; or a file of last events"
