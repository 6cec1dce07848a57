"""A wrong call of a verb ends at once, with what was wrong and what to do instead."""

from pathlib import Path

import pytest
from helpers import nightbus
from models import Small, loader, trainer

IS_NO_RUN = "is neither a run's folder nor an id"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = trainer(tmp_path_factory.mktemp("runs"))
    done.fit(Small(), loader())
    assert done.run_folder is not None
    return done.run_folder.path


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("show nowhere", f"{IS_NO_RUN} or a name below ./runs"),
        ("show ROOT", "is not a run; runs in"),
        ("replay RUN", "name a destination"),
        ("replay RUN --resume --csv x", "leave out --csv DIR"),
        ("send nowhere stop", IS_NO_RUN),
        ("send RUN explode", "invalid choice: 'explode'"),
        ("send RUN", "the following arguments are required: VERB"),
        ("send RUN --json", "what is the run to do? expected stop, checkpoint, pause, resume"),
        ("send RUN --json explode", "invalid choice: 'explode'"),
        ("send RUN --command x.Y stop", "the verb stop and --command x.Y: expected one of them"),
        ("send RUN --command x.Y --reason z", "--reason and --command x.Y: expected one of them"),
        ("send RUN stop --to rates", "--to goes with --command NAME"),
        ("send RUN stop --json {}", "--json '{...}' goes with --command NAME"),
        ("send RUN --command x.Y --json {rate:1}", "expected a JSON object"),
        ("send RUN --command x.Y --json [1]", "invalid choice: '[1]'"),
        ("send RUN stop --timeout -1", "expected 0 to 3600 seconds"),
        ("send RUN stop --timeout nan", "expected 0 to 3600 seconds"),
        ("plot RUN -o out.png --metric lost", "no metric lost; recorded: train_loss"),
        ("plot RUN -o out.txt", "out.txt: expected one of the endings"),
        ("tail RUN --kind Foo", "there are no events of type Foo"),
        ("tail RUN -n -1", "expected 0 or more"),
    ],
)
def test_a_wrong_call_is_told_what_to_do(run: Path, call: str, message: str) -> None:
    paths = {"RUN": str(run), "ROOT": str(run.parent)}

    done = nightbus(*[paths.get(word, word) for word in call.split()])

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
