"""L4: the evaluator's figure of the artefact's captions, beside eager's on the same pictures."""

from vlv_core.errors import ModelError, PluginError
from vlv_core.plugins import load_plugins
from vlv_core.registry import Plugins
from vlv_export.parity.meaning import Recorder, Replay, figure, scorer
from vlv_export.parity.report import Check, Level, judged
from vlv_export.parity.target import Target


def check_scores(target: Target, *, plugins: Plugins | None) -> Level:
    """The level's outcome; not run where the evaluator is absent or shows other pictures now."""
    facts = target.golden.facts
    if facts.scored is None:
        reason = "random weights" if facts.random_weights else "no evaluator knows its world"
        return Level(level="L4", state="not applicable", reason=reason)
    scored = facts.scored
    recorder = Recorder(target.runtime)
    try:
        score = scorer(plugins or load_plugins(), scored.evaluator, scored.options)
        # Eager's captions first: if the pictures have changed, that is told before any work.
        eager_report = score(Replay(facts.model, scored.captions))
        found_report = score(recorder)
    except (PluginError, ModelError) as error:
        return Level(level="L4", state="not run", reason=error.message)
    place = scored.group, scored.entry, scored.figure
    eager, found = (100 * figure(each, *place) for each in (eager_report, found_report))
    other = [key for key, said in recorder.said.items() if said.text != scored.captions[key][0]]
    check = Check(
        part="captions",
        output=scored.figure,
        figure="difference, points",
        value=abs(found - eager),
        most=target.limits.points,
        worst=f"{found:.2f}, eager {eager:.2f}",
    )
    note = f"{len(recorder.said)} paired pictures; {len(other)} captions differ by a word or more"
    return judged("L4", [check], notes=(note,))
