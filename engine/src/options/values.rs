//! Values with units.

/// A number of bytes as Docker reads it: `64m`, `1.5g`, `10kb`, `2MiB`; units are powers of 1024.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let letters = lower.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(letters);
    let power = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let number = number.trim_end();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let factor = 1024_u64.pow(power);
    match number.split_once('.') {
        None if digits(number) => number.parse::<u64>().ok()?.checked_mul(factor),
        Some((whole, part)) if digits(whole) && digits(part) => {
            let value = number.parse::<f64>().ok()? * factor as f64;
            (value < u64::MAX as f64).then_some(value as u64)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("64m", Some(64 << 20)),
            ("64MB", Some(64 << 20)),
            ("2 GiB", Some(2 << 30)),
            ("1.5k", Some(1536)),
            ("10b", Some(10)),
            ("", None),
            ("m", None),
            ("-1", None),
            ("1x", None),
            ("1.", None),
            ("1e3", None),
            ("99999999999999999999", None),
            ("99999999999p", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
