//! Medians, middle halves, and the tables they are printed in.
//!
//! Decides when a figure reaches its goal and when it is too noisy to say. It refuses to know what was measured.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Outcome;

/// A middle half wider than this part of the median to either side calls for another run at a calmer hour.
const NOISY: f64 = 0.20;

/// Whether this run is only to show that everything works.
static SHORT: AtomicBool = AtomicBool::new(false);

/// From now on a round is short and there is one: every answer is looked at as ever, and no figure counts.
pub(crate) fn shorten() {
    SHORT.store(true, Ordering::Relaxed);
}

/// How many rounds there are, beside the one that is left out.
pub(crate) fn rounds(all: usize) -> usize {
    if SHORT.load(Ordering::Relaxed) { 1 } else { all }
}

/// How much is done in a round.
pub(crate) fn count(all: usize) -> usize {
    if SHORT.load(Ordering::Relaxed) { all / 10 } else { all }
}

/// How long something lasts.
pub(crate) fn lasting(whole: Duration) -> Duration {
    if SHORT.load(Ordering::Relaxed) { whole / 10 } else { whole }
}

/// The median of some figures, and the quarter points around it.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    /// A quarter of the figures are below.
    pub(crate) low: f64,
    /// Half of them are.
    pub(crate) median: f64,
    /// Three quarters are.
    pub(crate) high: f64,
}

impl Spread {
    /// The spread of these figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        Spread { low: quantile(&figures, 0.25), median: quantile(&figures, 0.5), high: quantile(&figures, 0.75) }
    }

    fn is_noisy(&self) -> bool {
        self.low < self.median * (1.0 - NOISY) || self.high > self.median * (1.0 + NOISY)
    }
}

/// The figure below which this part of the sorted figures lies, between neighbours by proportion.
pub(crate) fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = part * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * (place - place.floor())
}

/// The same of durations, in any order.
pub(crate) fn duration_at(durations: &mut [Duration], part: f64) -> Duration {
    durations.sort_unstable();
    let seconds: Vec<f64> = durations.iter().map(Duration::as_secs_f64).collect();
    let at = quantile(&seconds, part);
    if at.is_finite() { Duration::from_secs_f64(at) } else { Duration::ZERO }
}

/// What a figure should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// It is printed for comparison only.
    None,
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtLeast(goal) => f.pad(&format!(">= {goal}")),
            Goal::AtMost(goal) => f.pad(&format!("<= {goal}")),
            Goal::None => f.pad("-"),
        }
    }
}

/// A table that is printed row by row, as figures come in.
pub(crate) struct Table;

impl Table {
    /// Prints the head.
    pub(crate) fn begin(title: &str) -> Outcome<Table> {
        say(&format!("\n{title}"))?;
        let (what, ours, reference, ratio) = ("", "server", "reference", "ratio");
        say(&format!("  {what:<52} {ours:>12} {reference:>12} {ratio:>7}  {:<17} {:<9}", "middle half", "goal"))?;
        Ok(Table)
    }

    /// Prints figures measured in pairs, and the spread of each pair's ratio. `pairs` are the server's figures with the
    /// reference's; `invert`: the ratio is the reference's part of the server's, as where less is better and the goal
    /// says by how much the reference may be cheaper.
    pub(crate) fn pairs(&self, what: &str, unit: &str, pairs: &[(f64, f64)], invert: bool, goal: Goal) -> Outcome<()> {
        let ours = Spread::of(pairs.iter().map(|pair| pair.0)).median;
        let reference = Spread::of(pairs.iter().map(|pair| pair.1)).median;
        let ratio = Spread::of(pairs.iter().map(|&(ours, reference)| if invert { reference / ours } else { ours / reference }));
        let (ours, reference) = (format!("{ours:.1}{unit}"), format!("{reference:.1}{unit}"));
        let half = format!("{:.3} to {:.3}", ratio.low, ratio.high);
        let verdict = verdict(ratio.median, goal, ratio.is_noisy());
        let ratio = ratio.median;
        say(&format!("  {what:<52} {ours:>12} {reference:>12} {ratio:>7.3}  {half:<17} {goal:<9} {verdict}"))
    }

    /// Prints a figure that has no reference.
    pub(crate) fn figure(&self, what: &str, unit: &str, figure: f64, goal: Goal) -> Outcome<()> {
        let verdict = verdict(figure, goal, false);
        let figure = format!("{figure:.2}{unit}");
        say(&format!("  {what:<52} {figure:>12} {:>12} {:>7}  {:<17} {goal:<9} {verdict}", "", "", ""))
    }

    /// Prints figures that have no reference, of several rounds.
    pub(crate) fn figures(&self, what: &str, unit: &str, figures: &[f64], goal: Goal) -> Outcome<()> {
        let spread = Spread::of(figures.iter().copied());
        let half = format!("{:.2} to {:.2}", spread.low, spread.high);
        let verdict = verdict(spread.median, goal, spread.is_noisy());
        let figure = format!("{:.2}{unit}", spread.median);
        say(&format!("  {what:<52} {figure:>12} {:>12} {:>7}  {half:<17} {goal:<9} {verdict}", "", ""))
    }
}

fn verdict(figure: f64, goal: Goal, noisy: bool) -> &'static str {
    let reached = match goal {
        Goal::AtLeast(goal) => figure >= goal,
        Goal::AtMost(goal) => figure <= goal,
        Goal::None => return if noisy { "noisy" } else { "" },
    };
    match (reached, noisy) {
        (true, false) => "reached",
        (false, false) => "MISSED",
        (true, true) => "reached, but noisy: run again",
        (false, true) => "MISSED, but noisy: run again",
    }
}

/// Prints a line.
pub(crate) fn say(line: &str) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", line.trim_end())?;
    Ok(out.flush()?)
}
