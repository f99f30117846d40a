//! One record of comma-separated values (RFC 4180), as Docker reads `--mount`.

use crate::syntax::Problem;

/// The fields of `text`: with commas between, each bare or in quotes, a quote in quotes doubled.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, Problem> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        if !rest.starts_with('"') && field.contains('"') {
            return Err(Problem::Quotes { reason: "a quote stands in the middle of a field" });
        }
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// What stands before the closing quote, and what is left behind it: nothing, or a comma and more.
fn quoted_field(mut rest: &str) -> Result<(String, &str), Problem> {
    let mut field = String::new();
    loop {
        let Some((before, after)) = rest.split_once('"') else {
            return Err(Problem::Quotes { reason: "a quote is opened and not closed" });
        };
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => {
                return Err(Problem::Quotes { reason: "something follows a closing quote" });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_split() {
        let split = |text| fields(text).unwrap();
        assert_eq!(split("a=b,c"), ["a=b", "c"]);
        assert_eq!(
            split(r#"type=bind,"source=/a,b ""c""",x"#),
            ["type=bind", r#"source=/a,b "c""#, "x"]
        );
        assert_eq!(split(r#""""#), [""]);
        assert_eq!(split(",a,"), ["", "a", ""]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn quotes_have_to_pair() {
        let error = |text| fields(text).unwrap_err().to_string();
        assert!(error(r#"a="b""#).contains("in the middle"));
        assert!(error(r#""a"#).contains("not closed"));
        assert!(error(r#""a"b,c"#).contains("follows a closing quote"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_quoted_comes_back(given in proptest::collection::vec("\\PC{0,8}", 1..5)) {
            let quote = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let text = given.iter().map(quote).collect::<Vec<_>>().join(",");
            proptest::prop_assert_eq!(fields(&text).unwrap(), given);
        }

        #[test]
        fn never_panics(text in "(\"|,|\\PC){0,20}") {
            let _ = fields(&text);
        }
    }
}
