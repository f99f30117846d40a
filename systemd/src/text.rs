//! Values in GVariant's text form: those that a unit's property can have.
//!
//! <https://docs.gtk.org/glib/gvariant-text-format.html>: numbers, with their type before them where it is not
//! int32 or double; strings; true and false; arrays of strings or of numbers.

use zvariant::{ObjectPath, Value};

/// The value that a text stands for.
pub(crate) fn parse(text: &str) -> Result<Value<'static>, String> {
    let mut rest = text;
    let value = value(&mut rest)?;
    match rest.trim_start() {
        "" => Ok(value),
        more => Err(format!("{more:?} follows the value")),
    }
}

fn value(rest: &mut &str) -> Result<Value<'static>, String> {
    *rest = rest.trim_start();
    match rest.chars().next() {
        None => Err("there is no value".to_owned()),
        Some('\'' | '"') => Ok(string(rest)?.into()),
        Some('[') => array(rest, None),
        Some('@') => {
            let (kind, after) =
                rest[1..].split_once(char::is_whitespace).unwrap_or((&rest[1..], ""));
            *rest = after.trim_start();
            match kind.strip_prefix('a') {
                Some(kind) if rest.starts_with('[') => array(rest, Some(name(kind)?)),
                _ => typed(rest, name(kind)?),
            }
        }
        Some(_) => {
            let word = word(rest);
            match word {
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                kind if kind.starts_with(|c: char| c.is_ascii_lowercase()) => typed(rest, kind),
                number => scalar(number, if is_real(number) { "double" } else { "int32" }),
            }
        }
    }
}

/// What follows the name of its type.
fn typed(rest: &mut &str, kind: &str) -> Result<Value<'static>, String> {
    *rest = rest.trim_start();
    match kind {
        "string" => Ok(string(rest)?.into()),
        "objectpath" => {
            let path = string(rest)?;
            ObjectPath::try_from(path.clone())
                .map(Value::from)
                .map_err(|_| format!("{path:?} is no object path"))
        }
        kind => scalar(word(rest), kind),
    }
}

/// The name of a type that is given by its letter.
fn name(letter: &str) -> Result<&'static str, String> {
    Ok(match letter {
        "b" => "boolean",
        "y" => "byte",
        "n" => "int16",
        "q" => "uint16",
        "i" => "int32",
        "u" => "uint32",
        "x" => "int64",
        "t" => "uint64",
        "d" => "double",
        "s" => "string",
        "o" => "objectpath",
        _ => return Err(format!("values of the type {letter:?} are not supported")),
    })
}

fn is_real(number: &str) -> bool {
    !number.contains(['x', 'X']) && number.contains(['.', 'e', 'E'])
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    let end =
        rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ']')).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    word
}

fn scalar(word: &str, kind: &str) -> Result<Value<'static>, String> {
    let wrong = || format!("{word:?} is no {kind}");
    // Hexadecimal and octal as in C.
    let whole = || {
        let (sign, digits) = match word.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, word.strip_prefix('+').unwrap_or(word)),
        };
        let (digits, radix) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
            None => (digits, 10),
        };
        // One sign is enough.
        let plain = digits.starts_with(|c: char| c.is_ascii_hexdigit());
        i128::from_str_radix(digits, radix)
            .ok()
            .filter(|_| plain)
            .map(|number| sign * number)
            .ok_or_else(wrong)
    };
    fn fit<T: TryFrom<i128> + Into<Value<'static>>>(
        number: i128,
        wrong: impl Fn() -> String,
    ) -> Result<Value<'static>, String> {
        T::try_from(number).map(Into::into).map_err(|_| wrong())
    }
    match kind {
        "boolean" => match word {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(wrong()),
        },
        "byte" => fit::<u8>(whole()?, wrong),
        "int16" => fit::<i16>(whole()?, wrong),
        "uint16" => fit::<u16>(whole()?, wrong),
        "int32" => fit::<i32>(whole()?, wrong),
        "uint32" => fit::<u32>(whole()?, wrong),
        "int64" => fit::<i64>(whole()?, wrong),
        "uint64" => fit::<u64>(whole()?, wrong),
        "double" => word.parse::<f64>().map(Value::from).map_err(|_| wrong()),
        _ => Err(format!("{kind:?} is no type of a value; a string stands in quotation marks")),
    }
}

fn string(rest: &mut &str) -> Result<String, String> {
    let mut chars = rest.chars();
    let quote = match chars.next() {
        Some(quote @ ('\'' | '"')) => quote,
        _ => return Err(format!("{rest:?} is no string; it stands in quotation marks")),
    };
    let mut text = String::new();
    loop {
        match chars.next().ok_or("a string has no end")? {
            end if end == quote => break,
            '\\' => match chars.next().ok_or("a string has no end")? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                '\0' => return Err("a string has a NUL byte".to_owned()),
                other => text.push(other),
            },
            '\0' => return Err("a string has a NUL byte".to_owned()),
            other => text.push(other),
        }
    }
    *rest = chars.as_str();
    Ok(text)
}

/// `[1, 2]`, of values of one type.
fn array(rest: &mut &str, kind: Option<&str>) -> Result<Value<'static>, String> {
    *rest = rest.strip_prefix('[').unwrap_or(rest).trim_start();
    let mut values: Vec<Value<'static>> = Vec::new();
    let mut first = kind;
    while !rest.starts_with(']') {
        if !values.is_empty() {
            *rest = rest.strip_prefix(',').ok_or("a comma is missing in an array, or its end")?;
            *rest = rest.trim_start();
        }
        values.push(match first {
            Some(kind) => typed(rest, kind)?,
            None => {
                // The first one's type is that of all.
                let start = *rest;
                let one = value(rest)?;
                first = ["byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "double"]
                    .into_iter()
                    .find(|kind| start.starts_with(kind));
                if matches!(one, Value::Array(_)) {
                    return Err("arrays of arrays are not supported".to_owned());
                }
                one
            }
        });
        *rest = rest.trim_start();
    }
    *rest = &rest[1..];
    let of = match values.first() {
        Some(one) => one.value_signature().clone(),
        None => match kind {
            Some(kind) => letter(kind),
            None => return Err("an empty array needs its type: @as []".to_owned()),
        },
    };
    let mut all = zvariant::Array::new(&of);
    for value in values {
        all.append(value).map_err(|_| "an array has values of more than one type".to_owned())?;
    }
    Ok(all.into())
}

fn letter(kind: &str) -> zvariant::Signature {
    use zvariant::Signature::*;
    match kind {
        "boolean" => Bool,
        "byte" => U8,
        "int16" => I16,
        "uint16" => U16,
        "int32" => I32,
        "uint32" => U32,
        "int64" => I64,
        "uint64" => U64,
        "double" => F64,
        "objectpath" => ObjectPath,
        _ => Str,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_values() {
        for (text, expected) in [
            ("uint64 123456789", Value::U64(123_456_789)),
            ("'inactive-or-failed'", "inactive-or-failed".into()),
            ("\"a'b\\n\\\"\"", "a'b\n\"".into()),
            ("37", Value::I32(37)),
            ("-0x10", Value::I32(-16)),
            ("byte 010", Value::U8(8)),
            (" true ", true.into()),
            ("boolean false", false.into()),
            ("1.5", Value::F64(1.5)),
            ("@t 5", Value::U64(5)),
            ("int16 -3", Value::I16(-3)),
            ("['a', 'b']", vec!["a", "b"].into()),
            ("[uint32 1, 2]", vec![1_u32, 2].into()),
            ("@au [3]", vec![3_u32].into()),
            ("@as []", Vec::<&str>::new().into()),
            ("objectpath '/a/b'", ObjectPath::try_from("/a/b").unwrap().into()),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            "",
            "'a",
            "a",
            "uint64",
            "uint64 -1",
            "byte 256",
            "1 2",
            "[",
            "[1",
            "[1 2]",
            "[1, 'a']",
            "[]",
            "[[1]]",
            "@a{sv} {}",
            "objectpath 'a'",
            "--1",
            "+-1",
            "0x",
            "'a\0'",
            "<1>",
            "uint64 +0x-1",
        ] {
            assert!(parse(text).is_err(), "{text:?}: {:?}", parse(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([@\\['\", \\]\\\\a-z0-9.x-]|uint64 |byte |é){0,12}") {
            let _ = parse(&text);
        }
    }
}
