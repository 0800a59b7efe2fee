use super::*;
use proptest::prelude::*;

fn limits(bytes: u64, operations: u64) -> Limits {
    Limits {
        bytes_per_second: NonZeroU64::new(bytes),
        operations_per_second: NonZeroU64::new(operations),
    }
}

proptest! {
    /// Over any stretch of time no more passes than burst, rate and the one request that may overdraw.
    #[test]
    fn the_rate_is_kept(
        rate in 1..10_000_000u64,
        steps in proptest::collection::vec((0..2_000_000_000u64, 0..1_000_000u64), 1..100),
    ) {
        let mut limiter = RateLimiter::new(limits(rate, 0)).unwrap().unwrap();
        let start = Instant::now() + Duration::from_secs(1);
        let mut now = start;
        let (mut passed, mut largest) = (0u128, 0);
        for (nanos, bytes) in steps {
            now += Duration::from_nanos(nanos);
            while limiter.wait_at(now).is_zero() && bytes > 0 {
                limiter.spend(bytes);
                passed += u128::from(bytes);
                largest = largest.max(bytes);
            }
            let allowed = u128::from(rate) * (now - start).as_nanos() / 1_000_000_000;
            prop_assert!(passed <= allowed + u128::from((rate / 10).max(1)) + u128::from(largest) + 1);
        }
    }

    /// After the wait it asks for, a limiter lets something pass.
    #[test]
    fn the_wait_is_long_enough(rate in 1..u64::MAX, spent: u64) {
        let mut limiter = RateLimiter::new(limits(rate, 0)).unwrap().unwrap();
        let now = Instant::now();
        limiter.wait_at(now);
        limiter.spend(spent);
        let wait = limiter.wait_at(now);
        if let Some(later) = now.checked_add(wait).filter(|_| wait < Duration::from_secs(1 << 30)) {
            prop_assert!(limiter.wait_at(later).is_zero());
        }
    }
}

#[test]
fn without_limits_there_is_no_limiter() {
    assert!(RateLimiter::new(Limits::default()).unwrap().is_none());
    let limits: Limits = serde_json::from_str(r#"{"bytes_per_second":5}"#).unwrap();
    assert_eq!(limits.operations_per_second, None);
    assert!(serde_json::from_str::<Limits>(r#"{"bytes_per_second":0}"#).is_err());
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
    let mut poll = libc::pollfd {
        fd: limiter.fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure that lives for the call.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 5000) }, 1);
    limiter.elapsed();
    assert!(limiter.ready());
}
