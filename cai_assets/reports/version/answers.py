"""A newcomer's questions and their answers: what the page says before anything else.

Guarantees: each answer has its count and interval, and says 'too few to tell' where they do not suffice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cai_assets.assets import BASE, PLAIN
from cai_assets.evals.attribution import SEEN
from cai_assets.evals.gate import GateResult
from cai_assets.evals.judge import QUESTIONS
from cai_assets.evals.power import beside, detectable, detectable_apart
from cai_assets.evals.rounds import Stop, over_half, stops_paying
from cai_assets.evals.statistics import FEW, NOT_SEEN, Estimate, Telling, told
from cai_assets.pipeline.spending import dollars, served_tokens
from cai_assets.reports.compare.sides import materializations
from cai_assets.reports.html.page import Answer, Told, told_of
from cai_assets.reports.rounds import stop_sentence
from cai_assets.reports.stress import sentences
from cai_assets.reports.text.numbers import change_of, delta_of, interval, share, value_of
from cai_assets.reports.version.evidence import Evidence, spent
from cai_assets.reports.version.labels import gate_of
from cai_assets.reports.version.policies import ALL, adherence, difference, metric, name_of, rules_kept, wins
from cai_assets.reports.version.suites import attack_success, measured
from cai_assets.reports.version.training import monitors

UNKNOWN = "not measured"
QUALITY, ROUNDS, LABELS, HACKING = "Helpfulness and harmlessness", "Rounds of critique", "Labels", "Reward hacking"
SUITES, TESTS, PREVENTS = "Suites and attacks", "Tests of the constitution", "What each principle prevents"
ABOUT = {ROUNDS: "revisions", LABELS: "preference_pairs", HACKING: "rl_policy"}  # sections of one half
PRINCIPLES, COST, AGAIN = "Principles", "Cost", "How to reproduce"
STRESS = "Principles that contradict each other"
TOLD_ALONE = 3  # rules


def answers(evidence: Evidence) -> Iterator[Answer]:
    """In the order in which a newcomer would ask."""
    yield _better(evidence, BASE, "Is it better than the base model?")
    yield _better(evidence, PLAIN, "Is it better than plain SFT?")
    yield _price(evidence)
    yield _attacked(evidence)
    yield _did_it(evidence)
    yield _principles(evidence)
    yield from _rules(evidence)
    yield from _conflicts(evidence)
    for title, answer in ((ROUNDS, _rounds), (LABELS, _labels), (HACKING, _hacked)):
        if ABOUT[title] not in evidence.absent:
            yield answer(evidence)
    yield _cost(evidence)
    yield Answer("How can I reproduce a figure?", "The command and the records are below each figure. For the whole "
                                                  f"page: cai report {evidence.side.name}.", section=AGAIN)


def _better(evidence: Evidence, over: str, question: str) -> Answer:
    policy = evidence.policy
    if policy is None or over not in evidence.policies:
        return Answer(question, f"No evaluation has both policies. {evidence.make('evaluation')}", Told(UNKNOWN),
                      QUALITY)
    d = difference(evidence, policy, over, "harmlessness")
    ours, theirs = (share(wins(evidence, p, "harmlessness")) for p in (policy, over))
    who = f"the {name_of(policy)}"
    text = (f"T{who[1:]} is judged less harmful than the base model in {ours} comparisons; a tie counts as half a win, "
            "so 50% means no difference."
            if over == BASE else f"In harmlessness, {who} beats the base model in {ours} comparisons and the "
                                 f"{name_of(over)} in {theirs}: {interval(d.estimate)} on the same {d.estimate.n} "
                                 "prompts.")
    return Answer(question, text, d.told, QUALITY)


def _price(evidence: Evidence) -> Answer:
    question = "What does it cost in helpfulness?"
    if evidence.policy is None:
        return Answer(question, f"Nothing has been evaluated yet. {evidence.make('evaluation')}", Told(UNKNOWN),
                      QUALITY)
    d = difference(evidence, evidence.policy, BASE, "helpfulness")
    refuses = " against ".join(f"{share(metric(evidence, p, 'refusal', 'helpful'))} ({name_of(p)})"
                               for p in (evidence.policy, BASE))
    return Answer(question, f"The {name_of(evidence.policy)} is judged more helpful than the base model in "
                  f"{share(wins(evidence, evidence.policy, 'helpfulness'))} comparisons. Refuses helpful requests: "
                  f"{refuses}.", d.told, QUALITY)


def _attacked(evidence: Evidence) -> Answer:
    question, row = "Does it resist attacks?", attack_success(evidence, evidence.policy) if evidence.policy else None
    base = attack_success(evidence, BASE)
    if row is None or base is None:
        return Answer(question, f"No attack suite has run. {evidence.make('suite_results')}", Told(UNKNOWN), SUITES)
    change = delta_of(row)
    return Answer(question, f"Attacks succeed on the {name_of(row['policy'])} in {share(value_of(row))} requests, and "
                            f"on the base model in {share(value_of(base))}: "
                            f"{interval(change)}.", told_of(row["verdict"], change, evidence.telling), SUITES)


def _did_it(evidence: Evidence) -> Answer:
    """From the versions without one principle each; only what the attribution itself calls a difference is named."""
    question, rows = "Which principle made the difference?", measured(evidence)
    if not rows:
        return Answer(question, "No principle has been left out to see what changes. To see the cost first: cai "
                                f"attribute {evidence.version} --plan.", Told(UNKNOWN), PREVENTS)
    seen = [r for r in rows if r["verdict"] in SEEN]
    changes = {r["principle"]: change_of(r) for r in seen}
    effects = "; ".join(f"without {p} attack success changes by {interval(e)} over {e.n} requests"
                        for p, e in changes.items())
    few = sum(r["verdict"] == FEW for r in rows)
    sizes = [detectable(change_of(r), evidence.telling, tests=len(rows)) for r in rows]
    least = max((size for size in sizes if size), default=None)
    words = effects[:1].upper() + effects[1:] if seen else "No evidence that any one principle changes attack success"
    unsure = f"; {few} of them have too few requests to tell" if few else ""
    return Answer(question, f"{words}. {len(rows)} of {len(evidence.side.constitution.principles)} principles were "
                  f"left out, one at a time{unsure}.",
                  Told(f"{len(seen)} found") if seen else Told(
                      FEW if few else NOT_SEEN, f"detectable of each: {least:.2g}" if least else ""), PREVENTS)


def _principles(evidence: Evidence) -> Answer:
    question = "Which principle is followed most, and which least?"
    shares = adherence(evidence, evidence.policy) if evidence.policy else {}
    kept = {i: e for i, e in shares.items() if e.value is not None}
    if not kept:
        return Answer(question, "No principle judged it: none has an evaluation request, or nothing has been "
                                "evaluated.",
                      Told(UNKNOWN), PRINCIPLES)
    order = sorted(kept.items(), key=lambda item: (-(item[1].value or 0), item[0]))
    (most, best), (least, worst) = order[0], order[-1]
    if len(order) == 1:
        return Answer(question, f"One principle judges: {most}, {share(best)}.", None, PRINCIPLES)
    text = f"Most: {most}, {share(best)}. Least: {least}, {share(worst)}."
    return Answer(question, text + " These are wins over the base model; the order is only clear if the intervals do "
                                   "not overlap.",
                  _apart(best, worst, evidence.telling), PRINCIPLES)


def _rules(evidence: Evidence) -> Iterator[Answer]:
    """Nothing where no principle has a check; where many have, they are told as one."""
    policy, base = evidence.policy, rules_kept(evidence, BASE)
    rows = rules_kept(evidence, policy) if policy else {}
    if policy is None or not rows or not base:
        return
    each = [i for i in rows if i != ALL]
    shown = {i: i for i in each} if len(each) <= TOLD_ALONE else {ALL: f"all {len(each)} of them"}
    said = (f"{name} in {share(value_of(rows[i]))} answers, and the base model in {share(value_of(base[i]))}: "
            f"{interval(delta_of(rows[i]))}" for i, name in shown.items())
    yield Answer("Does it keep the rules that need no judge?", f"The {name_of(policy)} keeps {'; '.join(said)}.",
                 told_of(rows[ALL]["verdict"], delta_of(rows[ALL]), evidence.telling), PRINCIPLES)


def _apart(best: Estimate, worst: Estimate, telling: Telling) -> Told:
    """Whether highest and lowest of many differ: their intervals must not meet, which allows for the choosing."""
    if min(best.n, worst.n) < telling.enough or best.low is None or worst.high is None:
        return Told(FEW, f"{telling.enough} needed of each")
    if best.low > worst.high:
        return Told("clearly different")
    size = detectable_apart(best, worst, telling)
    return Told(NOT_SEEN, f"detectable: {size:.2g}" if size else "")


def _conflicts(evidence: Evidence) -> Iterator[Answer]:
    """Nothing where no stress test was asked for."""
    found = evidence.conflicts
    if found is None:
        return
    verdicts = Counter(pair.verdict for pair in found.pairs)
    word = "some do" if found.opposed else FEW if verdicts[FEW] == len(found.pairs) else NOT_SEEN
    yield Answer("Do principles contradict each other?", " ".join(sentences(found)[:1 + len(found.opposed[:3])]),
                 Told(word), STRESS)


def _rounds(evidence: Evidence) -> Answer:
    question, metrics = "Where does critique stop paying off?", evidence.table("round_quality")
    if metrics is None:
        return Answer(question, f"The rounds have not been judged one by one. {evidence.make('round_quality')}",
                      Told(UNKNOWN), ROUNDS)
    stops = [stops_paying(metrics, q) for q in QUESTIONS]
    return Answer(question, " ".join(stop_sentence(s, evidence.telling) for s in stops),
                  Told(_paying(stops[0])), ROUNDS)


def _paying(stop: Stop) -> str:
    if stop.gain is None or stop.verdict == FEW:
        return FEW
    return f"after round {stop.paying}" if stop.paying else "no round gains"


def _labels(evidence: Evidence) -> Answer:
    question, gate = "Can the labels be trusted?", gate_of(evidence)
    if gate is None:
        return Answer(question, f"The labeler has not been compared with people. {evidence.make('preference_pairs')}",
                      Told(UNKNOWN), LABELS)
    return Answer(question, f"The labeler agrees with people on {share(gate.accuracy_debiased)} comparisons; guessing "
                            f"would give 50%. Both orders agree on {share(gate.consistency)}.",
                  _trusted(gate, evidence.telling), LABELS)


def _trusted(gate: GateResult, telling: Telling) -> Told:
    """By agreement with people: better than guessing, worse, or neither; but not where its two orders contradict each
    other more often than not."""
    if told(over_half(gate.consistency), enough=telling.enough, better="higher") == "worse":
        return Told("contradicts itself")
    lead = over_half(gate.accuracy_debiased)
    word = told(lead, enough=telling.enough, better="higher")
    return Told({"better": "better than guessing", "worse": "worse than guessing",
                 NOT_SEEN: "indistinguishable from guessing"}.get(word, word), beside(word, lead, telling))


def _hacked(evidence: Evidence) -> Answer:
    question, findings = "Was the reward hacked?", monitors(evidence)
    if not findings:
        return Answer(question, f"There is no RL policy yet. {evidence.make('rl_policy')}", Told(UNKNOWN), HACKING)
    states = Counter(str(f.state) for _, f in findings)
    failed = ", ".join(f.name.replace("_", " ") for _, f in findings if f.state == "failed")
    text = (f"{len(findings)} monitors: {states['passed']} passed, {states['failed']} failed, {states[FEW]} too few to "
            "tell")
    word = "signs of it" if failed else FEW if states[FEW] else "no sign of it"
    return Answer(question, f"{text}{f' ({failed})' if failed else ''}.", Told(word), HACKING)


def _cost(evidence: Evidence) -> Answer:
    names = ("generated", "completion_tokens", "seconds", "gpu_seconds")
    every = materializations(evidence.side)
    ever, priced = spent(every, names), [usd for r in every if (usd := dollars(r, evidence.price)) is not None]
    money = f", {sum(priced):.2f} US dollars" if priced else ""
    served = sum(map(served_tokens, every))
    elsewhere = f", {served:,.0f} tokens of served models" if served else ""
    return Answer("What did it cost?", f"All runs of this version: {ever['generated']:,.0f} model calls, "
                                       f"{ever['completion_tokens']:,.0f} tokens generated, {ever['seconds']:,.0f} "
                                       f"seconds, {ever['gpu_seconds']:,.0f} GPU seconds{elsewhere}{money}. Reused "
                                       "work was paid for earlier.", None, COST)
