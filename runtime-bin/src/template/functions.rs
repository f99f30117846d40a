//! The functions of templates: Go's own and Docker's.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// Widest field of `printf`, and longest padding.
const WIDTH_MAX: usize = 4096;

const NAMES: &str = "and eq ge gt index join json le len lower lt ne not or pad print printf println \
    slice split title truncate upper";

/// Calls the function `name`; in a `heading` those that change text change nothing.
///
/// # Errors
/// There is no such function, or it does not take these values: why.
pub(super) fn call(name: &str, values: &[Value], heading: bool) -> Result<Value, String> {
    if let (
        true,
        "json" | "upper" | "lower" | "title" | "truncate" | "pad" | "split" | "join",
        [first, ..],
    ) = (heading, name, values)
    {
        return Ok(first.clone());
    }
    Ok(match (name, values) {
        ("json", [value]) => value.to_string().into(),
        ("upper", [value]) => string(name, value)?.to_uppercase().into(),
        ("lower", [value]) => string(name, value)?.to_lowercase().into(),
        ("title", [value]) => title(string(name, value)?).into(),
        ("join", [list, separator]) => {
            let list = list.as_array().map(Vec::as_slice).or(list.is_null().then_some(&[]));
            let list = list.ok_or("join needs a list: {{join .X \",\"}}")?;
            let texts: Vec<String> = list.iter().map(text).collect();
            texts.join(string(name, separator)?).into()
        }
        ("split", [value, separator]) => {
            let (value, separator) = (string(name, value)?, string(name, separator)?);
            match separator {
                "" => value.chars().map(String::from).collect(),
                _ => value.split(separator).collect(),
            }
        }
        ("truncate", [value, count]) => {
            string(name, value)?.chars().take(number(name, count)?).collect::<String>().into()
        }
        ("pad", [value, before, after]) => {
            let value = string(name, value)?;
            if value.is_empty() {
                return Ok("".into());
            }
            let [before, after] = [before, after].map(|count| number(name, count));
            let (before, after) = (before?.min(WIDTH_MAX), after?.min(WIDTH_MAX));
            format!("{}{value}{}", " ".repeat(before), " ".repeat(after)).into()
        }
        ("len", [value]) => match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            Value::Null => 0,
            _ => return Err("len needs a list, a map or a text".to_owned()),
        }
        .into(),
        ("index", [value, keys @ ..]) => index(value, keys)?,
        ("slice", [value, bounds @ ..]) if bounds.len() <= 2 => slice(value, bounds)?,
        ("not", [value]) => (!truth(value)).into(),
        ("and" | "or", [value]) => value.clone(),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            let mut equal = false;
            for other in others {
                equal = equal || same(first, other)?;
            }
            equal.into()
        }
        ("ne", [a, b]) => (!same(a, b)?).into(),
        ("lt", [a, b]) => (order(a, b)? == Ordering::Less).into(),
        ("le", [a, b]) => (order(a, b)? != Ordering::Greater).into(),
        ("gt", [a, b]) => (order(a, b)? == Ordering::Greater).into(),
        ("ge", [a, b]) => (order(a, b)? != Ordering::Less).into(),
        ("print", values) => print(values).into(),
        ("println", values) => {
            let texts: Vec<String> = values.iter().map(text).collect();
            (texts.join(" ") + "\n").into()
        }
        ("printf", [form, values @ ..]) => printf(string(name, form)?, values)?.into(),
        _ if NAMES.split_ascii_whitespace().any(|known| known == name) => {
            return Err(format!("wrong number of arguments for {name}: {}", values.len()));
        }
        _ => return Err(format!("function {name:?} not defined; there are {NAMES}")),
    })
}

/// A value as it is printed.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(text).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs: Vec<_> =
                pairs.iter().map(|(key, value)| format!("{key}:{}", text(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Whether a condition holds: what is empty, zero or not there is false.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn string<'a>(name: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{name} needs a text and got {}", kind(value)))
}

fn number(name: &str, value: &Value) -> Result<usize, String> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{name} needs a number from 0 on and got {}", kind(value)))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// Each word with a capital.
fn title(text: &str) -> String {
    let mut before = ' ';
    let mut titled = String::with_capacity(text.len());
    for c in text.chars() {
        let in_word = before.is_alphanumeric() || matches!(before, '_' | '\'');
        before = c;
        match in_word {
            true => titled.push(c),
            false => titled.extend(c.to_uppercase()),
        }
    }
    titled
}

fn index(value: &Value, keys: &[Value]) -> Result<Value, String> {
    static NONE: Value = Value::Null;
    let mut value = value;
    for (place, key) in keys.iter().enumerate() {
        value = match (value, key) {
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(value) => value,
                // What a map of texts has not is empty; in Go too.
                None if place + 1 == keys.len() && is_text_map(map) => return Ok("".into()),
                None => &NONE,
            },
            (Value::Array(list), Value::Number(_)) => {
                let at = number("index", key)?;
                let length = list.len();
                list.get(at).ok_or_else(|| format!("index out of range: {at} of {length}"))?
            }
            (Value::Null, _) => return Err("index of nothing: there is no such key".to_owned()),
            (value, key) => {
                return Err(format!("cannot index {} by {}", kind(value), kind(key)));
            }
        };
    }
    Ok(value.clone())
}

fn is_text_map(map: &Map<String, Value>) -> bool {
    map.values().all(Value::is_string)
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let bound = |place: usize, default: usize| match bounds.get(place) {
        Some(bound) => number("slice", bound),
        None => Ok(default),
    };
    let out = |length: usize| format!("slice: out of range of {length}");
    match value {
        Value::String(text) => {
            let (from, to) = (bound(0, 0)?, bound(1, text.len())?);
            text.get(from..to).map(Value::from).ok_or_else(|| out(text.len()))
        }
        Value::Array(list) => {
            let (from, to) = (bound(0, 0)?, bound(1, list.len())?);
            list.get(from..to).map(|part| part.to_vec().into()).ok_or_else(|| out(list.len()))
        }
        value => Err(format!("slice needs a list or a text and got {}", kind(value))),
    }
}

fn same(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => Ok(order(a, b)? == Ordering::Equal),
        // Nothing is equal to nothing only.
        (Value::Null, _) | (_, Value::Null) => Ok(a == b),
        _ if std::mem::discriminant(a) == std::mem::discriminant(b) => Ok(a == b),
        _ => Err(format!("cannot compare {} with {}", kind(a), kind(b))),
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => Ok(x.cmp(&y)),
            _ => x.as_f64().partial_cmp(&y.as_f64()).ok_or_else(|| "not comparable".to_owned()),
        },
        _ => Err(format!("cannot compare {} with {}", kind(a), kind(b))),
    }
}

/// With spaces between what is no text, as Go's `Sprint`.
fn print(values: &[Value]) -> String {
    let mut printed = String::new();
    for (at, value) in values.iter().enumerate() {
        if at > 0 && !value.is_string() && !values[at - 1].is_string() {
            printed.push(' ');
        }
        printed.push_str(&text(value));
    }
    printed
}

/// `%s %v %d %q %t %x %f %%` with `-`, `0`, width and precision.
fn printf(form: &str, values: &[Value]) -> Result<String, String> {
    let mut printed = String::new();
    let mut values = values.iter();
    let mut chars = form.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            printed.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(c) = chars.next_if(|c| "-+0# ".contains(*c)) {
            flags.push(c);
        }
        let digits = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            let mut number = 0_usize;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                number = number.saturating_mul(10).saturating_add(digit as usize);
            }
            if number > WIDTH_MAX {
                return Err(format!("printf: a width of more than {WIDTH_MAX}"));
            }
            Ok(number)
        };
        let width = digits(&mut chars)?;
        let precision = match chars.next_if_eq(&'.') {
            Some(_) => Some(digits(&mut chars)?),
            None => None,
        };
        let verb = chars.next().ok_or("printf: there is nothing behind the last %")?;
        if verb == '%' {
            printed.push('%');
            continue;
        }
        let value = values.next().ok_or_else(|| format!("printf: no value for %{verb}"))?;
        let wrong = || format!("printf: %{verb} does not take {}", kind(value));
        let shown = match (verb, value) {
            ('v', value) => text(value),
            ('s', Value::Number(_) | Value::Bool(_)) => return Err(wrong()),
            ('s', value) => {
                let text = text(value);
                match precision {
                    Some(precision) => text.chars().take(precision).collect(),
                    None => text,
                }
            }
            ('q', Value::String(text)) => format!("{text:?}"),
            ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
            ('x', Value::Number(number)) => {
                number.as_u64().map(|number| format!("{number:x}")).ok_or_else(wrong)?
            }
            ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            ('t', Value::Bool(value)) => value.to_string(),
            ('f', Value::Number(number)) => {
                format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or_default())
            }
            ('q' | 'd' | 'x' | 't' | 'f', _) => return Err(wrong()),
            _ => return Err(format!("printf: %{verb} is not known; use %s %v %d %q %t %x %f")),
        };
        let missing = width.saturating_sub(shown.chars().count());
        let (left, zero) = (flags.contains('-'), flags.contains('0') && value.is_number());
        if !left {
            printed.extend(std::iter::repeat_n(if zero { '0' } else { ' ' }, missing));
        }
        printed.push_str(&shown);
        if left {
            printed.extend(std::iter::repeat_n(' ', missing));
        }
    }
    match values.next() {
        None => Ok(printed),
        Some(_) => Err("printf: there are more values than verbs".to_owned()),
    }
}
