//! Which step is slow, and what to do about it.

use super::{Finding, Report, Took};

/// On average, in milliseconds: people notice.
const SLOW: u64 = 1_000;

/// How a step is called, and where to look if it is slow.
struct Step {
    name: &'static str,
    remedy: &'static str,
}

const CALLER: Step = Step {
    name: "knowing the caller",
    remedy: "see whether the hook works here, and what this pod logs about the watch of pods: without either, callers \
             are waited for",
};

const CREDENTIALS: Step = Step {
    name: "getting credentials",
    remedy: "see how fast the destination's token service answers, and what is on the way to it",
};

const CONNECT: Step = Step {
    name: "connecting to the target",
    remedy: "see name service, routes and network policies on the way to the target, and whether it accepts in time",
};

const ANSWER: Step = Step {
    name: "the target's answer",
    remedy: "look at the target system: the proxy has sent the request and waits",
};

impl Report {
    /// Nothing where nothing was served yet.
    pub(super) fn speed(&self) -> Option<Finding> {
        const STEP: &str = "speed";
        let times = &self.times;
        let all = [
            (CALLER, times.caller),
            (CREDENTIALS, times.credentials),
            (CONNECT, times.connect),
            (ANSWER, times.answer),
        ];
        let taken: Vec<(Step, Took)> = all
            .into_iter()
            .filter_map(|(step, took)| Some((step, took?)))
            .collect();
        let (slowest, took) = taken.iter().max_by_key(|(_, took)| took.average_milliseconds)?;
        let told: Vec<String> = taken.iter().map(|(step, took)| told(step, took)).collect();
        let told = format!("on average {}", told.join(", "));
        Some(if took.average_milliseconds < SLOW {
            Finding::ok(STEP, told)
        } else {
            Finding::warning(STEP, format!("{} is slow; {told}", slowest.name)).remedy(slowest.remedy)
        })
    }
}

fn told(step: &Step, took: &Took) -> String {
    let Took {
        average_milliseconds,
        longest_milliseconds,
        ..
    } = took;
    format!(
        "{} {average_milliseconds} ms (at most {longest_milliseconds})",
        step.name
    )
}
