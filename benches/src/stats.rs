//! From samples to the one number that is reported.

/// The median; `None` without samples. For an even number of samples it is the lower middle one, which was measured.
#[must_use]
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
