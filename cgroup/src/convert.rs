//! Numbers of cgroup v1 as those of v2.

/// cpu.weight (1 to 10,000) for cpu.shares (2 to 262,144), which both are 0 where nothing was given.
///
/// The usual 1,024 becomes the usual 100, the ends are the ends, and in between it is quadratic in the
/// logarithms: 10^((l² + 125 l) / 612 - 7 / 34) with l = log₂ shares. That is the formula of runc 1.3.2 and
/// crun 1.23 on. The older one, 1 + (shares - 2) · 9999 / 262142, makes 39 of 1,024: beside a group with
/// the usual weight a container with the usual shares then has a third of what it should.
pub fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1 | 2 => 1,
        // The one in between that comes out even: the last bit of a logarithm, which is the platform's own,
        // would make 101 of it.
        1_024 => 100,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// io.weight (1 to 10,000) for blkio.weight (10 to 1,000), linear as runc's and crun's; 0 for 0.
pub fn io_weight(weight: u16) -> u64 {
    match u64::from(weight) {
        0 => 0,
        weight => 1 + weight.saturating_sub(10) * 9_999 / 990,
    }
}

/// memory.swap.max for the most of memory and swap together, and the most of memory: bytes, -1 any.
///
/// # Errors
/// The two do not go together; the reason, as the end of a sentence.
pub fn swap_alone(together: i64, memory: Option<i64>) -> Result<i64, &'static str> {
    match (together, memory) {
        (-1, _) => Ok(-1),
        (..-1, _) => Err("a negative amount is none; -1 is any amount"),
        (_, None | Some(..=0)) => {
            Err("it is the most of memory and swap together, and memory has no limit; give one")
        }
        (_, Some(memory)) if together < memory => {
            Err("it is the most of memory and swap together, so it must not be less than memory's")
        }
        (_, Some(memory)) => Ok(together - memory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_converted_as_by_runc() {
        // The table of opencontainers/cgroups' own test, and the values around it.
        for (shares, weight) in [
            (0, 0),
            (1, 1),
            (2, 1),
            (1_024, 100),
            (262_144, 10_000),
            (262_145, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn weights_of_devices_reach_from_end_to_end() {
        let table = [(0, 0), (10, 1), (500, 4950), (1_000, 10_000)];
        for (weight, expected) in table {
            assert_eq!(io_weight(weight), expected);
        }
    }

    #[test]
    fn swap_alone_is_what_is_above_memory() {
        assert_eq!(swap_alone(-1, None), Ok(-1));
        assert_eq!(swap_alone(300, Some(200)), Ok(100));
        assert_eq!(swap_alone(200, Some(200)), Ok(0));
        for (together, memory) in [(100, Some(200)), (100, None), (100, Some(-1)), (-2, Some(1))] {
            assert!(swap_alone(together, memory).is_err(), "{together} {memory:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn more_shares_are_never_less_weight(a in 0_u64..300_000, b in 0_u64..300_000) {
            let (less, more) = (a.min(b), a.max(b));
            proptest::prop_assert!(weight_of_shares(less) <= weight_of_shares(more));
            proptest::prop_assert!(weight_of_shares(more) <= 10_000);
        }

        #[test]
        fn io_weights_stay_in_their_range(weight in 10_u16..=1_000) {
            proptest::prop_assert!((1..=10_000).contains(&io_weight(weight)));
        }
    }
}
