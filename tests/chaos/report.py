"""What a run says at its end: counts, violations, and what is kept to look again."""

import collections
import pickle

SHOWN = 12  # violations in full


def listed(counter):
    return " ".join(f"{name}={count}" for name, count in sorted(counter.items()) if count) or "none"


def label(violation):
    """Its kind; of a needless refresh also the reason."""
    is_refresh = violation.kind == "needless"
    return f"needless-{violation.text.split()[0]}" if is_refresh else violation.kind


def wanted(chaos):
    """What should happen in every run."""
    is_told = chaos.world.settings.get("slow_client") == "refresh"
    return {"LISTEN lost", "handlers too slow", "handlers resumed", "cut in a replay",
            "replays over 64 KiB", "refreshes for what left the log", "evictions under a replay",
            "durable, replayed from the table", "refreshes for what was pruned",
            *(["overflows", "drops of several topics, counted"] if is_told
              else ["slow clients ended"])}


def tell_counts(chaos, results, judge):
    counts = collections.Counter()
    for result in results:
        counts.update(result["counts"])
    kinds = collections.Counter(window.kind for window in chaos.windows if window.kind != "start")
    print(f"\nevents: {listed(chaos.published['counts'])}")
    print(f"clients: {len(judge.records)}, {listed(counts)}")
    print(f"faults: {sum(kinds.values())}, {listed(kinds)}")
    undone = chaos.published["counts"]["durable refused"]
    print(f"table: {len(chaos.table.rows)} durable events committed, {undone} rolled back, "
          f"{chaos.world.pruned} removed by {chaos.world.prunes} prunes; "
          f"{len(chaos.world.unsubscribed)} subscriptions ended")
    print(f"refreshes: {listed(judge.refreshes)}; overflow dropped {judge.dropped}")
    print("coverage: " + "; ".join(f"{name} {chaos.coverage[name]}"
                                   for name in sorted(chaos.coverage)))
    never = sorted(wanted(chaos) - set(+chaos.coverage))
    if never:
        print(f"coverage: never met: {', '.join(never)}")


def faults_around(chaos, time, before=6):
    return "; ".join(
        f"{window.start - chaos.began:.3f} to {window.end - chaos.began:.3f} "
        f"{window.detail or window.kind}"
        for window in chaos.windows if time - before < window.end and window.start <= time + 1)


def tell_violations(chaos, violations):
    """The first of each kind in full, with what its client wrote down around it; their counts."""
    kinds = collections.Counter(label(violation) for violation in violations)
    shown = collections.Counter()
    for violation in violations:
        shown[label(violation)] += 1
        if shown[label(violation)] > max(2, SHOWN // len(kinds)):
            continue
        print(f"\n{violation.kind} at {violation.time - chaos.began:.3f}: {violation.text}")
        print(f"    faults around: {faults_around(chaos, violation.time) or 'none'}")
        if violation.record is not None:
            record = violation.record
            print(f"    client {record.number} ({record.habit}) of {record.what}:")
            print(record.around(violation.index, chaos.began))
    return kinds


def keep(chaos, results, judge):
    """What is needed to look again: all records as text, and everything for the judge."""
    directory = chaos.world.machines["A"].directory
    with open(directory / "records.txt", "w", encoding="utf-8") as out:
        for record in judge.records:
            out.write(f"--- client {record.number} ({record.habit}) of {record.what}\n"
                      f"{record.text(chaos.began)}\n")
    with open(directory / "run.pickle", "wb") as out:
        pickle.dump((chaos.published, results, chaos.windows, chaos.world.settings, chaos.began,
                     chaos.table, chaos.world.unsubscribed), out)
