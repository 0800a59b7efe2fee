use super::*;
use proptest::prelude::*;

fn bucket(rate: u64, burst: Option<u64>) -> Bucket {
    Bucket::new(NonZeroU64::new(rate).unwrap(), burst.and_then(NonZeroU64::new))
}

fn limits(bytes: u64, operations: u64) -> Limits {
    Limits {
        bytes_per_second: NonZeroU64::new(bytes),
        operations_per_second: NonZeroU64::new(operations),
        ..Limits::default()
    }
}

/// What passed: when, and how many tokens.
type Passed = Vec<(u64, u64)>;

/// In each window between two requests, what passed without the last request is below the burst and what came in. This
/// is exact: in parts of a token, with no tolerance.
fn rate_is_kept(bucket: &Bucket, passed: &Passed) -> Result<(), String> {
    for (first, (from, _)) in passed.iter().enumerate() {
        let mut sum = 0_u128;
        for (until, tokens) in &passed[first..] {
            let came_in = u128::from(until - from) * u128::from(bucket.rate.get());
            if sum >= bucket.capacity.unsigned_abs() + came_in {
                return Err(format!("{sum} from {from} to {until} of {bucket:?}: {passed:?}"));
            }
            sum += u128::from(*tokens) * PARTS.unsigned_abs();
        }
    }
    Ok(())
}

/// All sequences of up to `depth` steps, each after none to three nanoseconds with none to four tokens wanted.
fn exhaust(bucket: &Bucket, now: u64, passed: &mut Passed, depth: u32) -> Result<(), String> {
    if depth == 0 {
        return rate_is_kept(bucket, passed);
    }
    for elapsed in 0..4 {
        for tokens in 0..5 {
            let mut next = bucket.clone();
            next.refill(now + elapsed);
            assert!(next.balance <= next.capacity);
            let taken = next.wait() == 0;
            if taken {
                next.spend(tokens);
                passed.push((now + elapsed, tokens));
            }
            exhaust(&next, now + elapsed, passed, depth - 1)?;
            if taken {
                passed.pop();
            }
        }
    }
    Ok(())
}

#[test]
fn no_short_history_of_a_small_bucket_passes_more_than_it_may() {
    // From a token in three nanoseconds to two in one.
    for rate in [333_333_333, 500_000_000, 1_000_000_000, 2_000_000_000] {
        for burst in 1..4 {
            exhaust(&bucket(rate, Some(burst)), 0, &mut Passed::new(), 4).unwrap();
        }
    }
}

#[test]
fn a_wait_is_exactly_long_enough_for_each_small_debt() {
    for rate in 1..40 {
        for debt in 0..40 {
            let mut indebted = bucket(rate * 50_000_000, Some(1));
            indebted.spend(debt);
            let wait = indebted.wait();
            let after = |nanos: u64| {
                let mut later = indebted.clone();
                later.refill(nanos);
                later.wait() == 0
            };
            assert!(after(wait), "{rate} {debt}");
            assert!(wait == 0 || !after(wait - 1), "{rate} {debt}");
        }
    }
}

fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4u64,
        0..2_000_000_000u64,
        u64::MAX - 3..=u64::MAX,
        any::<u64>()
    ]
}

proptest! {
    #[test]
    fn the_rate_is_kept_over_any_stretch_of_time(
        rate in 1..10_000_000u64,
        burst in proptest::option::of(1..10_000_000u64),
        steps in proptest::collection::vec((0..2_000_000_000u64, 0..1_000_000u64), 1..50),
    ) {
        let (mut bucket, mut now, mut passed) = (bucket(rate, burst), 0, Passed::new());
        for (nanos, tokens) in steps {
            now += nanos;
            bucket.refill(now);
            for _ in 0..10 {
                if bucket.wait() == 0 {
                    bucket.spend(tokens);
                    passed.push((now, tokens));
                }
            }
        }
        prop_assert_eq!(rate_is_kept(&bucket, &passed), Ok(()));
    }

    /// Rates, bursts, times and requests at the limits of their types, in any order: no overflow, never more than the
    /// capacity, and a clock that goes back gives nothing.
    #[test]
    fn the_extremes_are_survived(
        rate in extreme(),
        burst in proptest::option::of(extreme()),
        steps in proptest::collection::vec((extreme(), extreme()), 1..50),
    ) {
        let mut bucket = bucket(rate.max(1), burst);
        let mut latest = 0;
        for (now, tokens) in steps {
            let before = bucket.balance;
            bucket.refill(now);
            prop_assert!(bucket.balance >= before && bucket.balance <= bucket.capacity);
            prop_assert!(now > latest || bucket.balance == before);
            latest = latest.max(now);
            bucket.spend(tokens);
            let wait = bucket.wait();
            prop_assert_eq!(wait == 0, bucket.balance > 0);
            // Longer waits than the type holds are cut.
            if let Some(later) = latest.checked_add(wait).filter(|_| wait < u64::MAX) {
                let mut then = bucket.clone();
                then.refill(later);
                prop_assert_eq!(then.wait(), 0);
            }
        }
    }
}

#[test]
fn a_debt_beyond_all_numbers_is_a_long_wait_and_no_overflow() {
    let mut bucket = bucket(1, None);
    bucket.balance = i128::MIN + 1;
    bucket.spend(u64::MAX);
    assert_eq!(bucket.wait(), u64::MAX);
    bucket.refill(u64::MAX);
    assert_eq!(bucket.wait(), u64::MAX);
}

#[test]
fn without_limits_there_is_no_limiter() {
    assert!(RateLimiter::new(Limits::default()).unwrap().is_none());
    let limits: Limits = serde_json::from_str(r#"{"bytes_per_second":5,"bytes_burst":7}"#).unwrap();
    assert_eq!(
        (limits.operations_per_second, limits.operations_burst),
        (None, None)
    );
    let buckets = Buckets::new(limits);
    assert_eq!(buckets.bytes.unwrap().capacity, 7 * PARTS);
    assert!(serde_json::from_str::<Limits>(r#"{"bytes_per_second":0}"#).is_err());
    let burst = NonZeroU64::new(1);
    let without_rate = Limits {
        bytes_burst: burst,
        operations_burst: burst,
        ..Limits::default()
    };
    assert!(RateLimiter::new(without_rate).unwrap().is_none());
}

fn readable(limiter: &RateLimiter) -> bool {
    let mut poll = libc::pollfd {
        fd: limiter.fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure that lives for the call.
    unsafe { libc::poll(&raw mut poll, 1, 5000) == 1 }
}

#[test]
fn the_descriptor_tells_when_to_go_on() {
    let mut limiter = RateLimiter::new(limits(0, 100)).unwrap().unwrap();
    let mut passed = 0;
    while limiter.ready() {
        limiter.spend(0);
        passed += 1;
        assert!(passed < 50);
    }
    assert!(readable(&limiter));
    limiter.elapsed();
    assert!(limiter.ready());
}

#[test]
fn who_shares_limits_waits_for_the_others_debts() {
    let mut first = RateLimiter::new(limits(1000, 0)).unwrap().unwrap();
    let mut second = first.share().unwrap();
    assert!(first.ready() && second.ready());
    first.spend(200);
    assert!(!first.ready() && !second.ready());
    for limiter in [&mut first, &mut second] {
        assert!(readable(limiter));
        limiter.elapsed();
        assert!(limiter.ready());
    }
}
