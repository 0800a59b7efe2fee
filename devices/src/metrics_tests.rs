use super::*;

#[test]
fn a_histogram_counts_in_powers_of_two_and_leaves_empty_buckets_at_the_end_out() {
    let histogram = Histogram::default();
    assert_eq!(
        histogram.snapshot(),
        serde_json::json!({"count": 0, "sum_us": 0, "log2_us": []})
    );
    for us in [0, 1, 2, 3, 4] {
        histogram.observe(Duration::from_micros(us));
    }
    assert_eq!(histogram.count(), 5);
    assert_eq!(
        histogram.snapshot(),
        serde_json::json!({"count": 5, "sum_us": 10, "log2_us": [1, 1, 2, 1]})
    );
}

#[test]
fn what_takes_for_ever_is_in_the_last_bucket() {
    let histogram = Histogram::default();
    histogram.observe(Duration::MAX);
    histogram.observe(Duration::from_micros(1 << 22));
    histogram.observe(Duration::from_micros((1 << 22) - 1));
    let snapshot = histogram.snapshot();
    assert_eq!(snapshot["log2_us"].as_array().unwrap().len(), 24);
    assert_eq!(
        (&snapshot["log2_us"][23], &snapshot["log2_us"][22]),
        (&2.into(), &1.into())
    );
}
