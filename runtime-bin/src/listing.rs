//! What the verbs that list things have in common: `--format`, and rows with Docker's field names.

use serde_json::{Map, Value};

use crate::output;
use crate::table::aligned;
use crate::template::{Data, Template};

/// One thing of a list.
#[derive(Debug)]
pub(crate) struct Row {
    /// An object with the fields that a template can name.
    pub(crate) fields: Value,
    /// What `{{.Label "key"}}` looks into.
    pub(crate) labels: Map<String, Value>,
}

impl Row {
    /// Without labels.
    pub(crate) fn new(fields: Value) -> Row {
        Row { fields, labels: Map::new() }
    }
}

/// What a verb lists, and how it calls it.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// `table {{.ID}}\t{{.Image}}`
    pub(crate) default: &'a str,
    /// Field and heading of each column that a table can have.
    pub(crate) headings: &'a [(&'a str, &'a str)],
}

impl Listing<'_> {
    /// The rows by `format`: `table`, `table TEMPLATE`, `json` (a line for each), or a template for
    /// each row; without one, the verb's own table.
    ///
    /// # Errors
    /// The format is no template, or names what there is not.
    pub(crate) fn text(&self, format: Option<&str>, rows: &[Row]) -> anyhow::Result<String> {
        let format = match format.map(str::trim) {
            None | Some("" | "table") => self.default,
            Some("json") => "{{json .}}",
            Some(format) => format,
        };
        let (table, format) = match format.strip_prefix("table") {
            Some(rest) if rest.starts_with(|c: char| c.is_whitespace() || c == '\\') => {
                (true, rest.trim_start())
            }
            _ => (false, format),
        };
        let format = format.replace("\\t", "\t").replace("\\n", "\n");
        let template = Template::parse(&format)?;
        let mut lines = String::new();
        if table {
            let headings = self.headings.iter();
            let headings = headings.map(|(field, text)| ((*field).to_owned(), (*text).into()));
            let value = Value::Object(headings.collect());
            let none = Map::new();
            let data = Data { value: &value, labels: Some(&none), heading: true };
            // Docker's headings are in capitals.
            lines = template.render(data)?.to_uppercase() + "\n";
        }
        for row in rows {
            let data = Data { value: &row.fields, labels: Some(&row.labels), heading: false };
            lines += &(template.render(data)? + "\n");
        }
        Ok(if table { aligned(&lines) } else { lines })
    }

    /// Prints [`Listing::text`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn print(&self, format: Option<&str>, rows: &[Row]) -> anyhow::Result<u8> {
        output::print(&self.text(format, rows)?)?;
        Ok(0)
    }
}

/// A value's text in a row: what comes from outside must not steer the terminal.
pub(crate) fn printable(text: &str) -> Value {
    output::printable(text).into()
}

/// `a=b,c=d`: how Docker lists labels.
pub(crate) fn labels_text<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    let pairs: Vec<_> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    printable(&pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LISTING: Listing<'_> = Listing {
        default: "table {{.ID}}\t{{.Name}}",
        headings: &[("ID", "ID"), ("Name", "Name")],
    };

    fn rows() -> [Row; 2] {
        let labels = json!({"a.b": "c"}).as_object().cloned().unwrap();
        [
            Row { fields: json!({"ID": "0123456789ab", "Name": "web"}), labels },
            Row::new(json!({"ID": "x", "Name": "größer"})),
        ]
    }

    #[test]
    fn each_format_is_dockers() {
        let text = |format| LISTING.text(format, &rows()).unwrap();
        let table = "ID             NAME\n0123456789ab   web\nx              größer\n";
        assert_eq!(text(None), table);
        assert_eq!(text(Some("table")), table);
        assert_eq!(text(Some("")), table);
        assert_eq!(
            text(Some("table {{.ID}}\\t{{upper .Name}}")),
            table.replace("web", "WEB").replace("größer", "GRÖSSER")
        );
        assert_eq!(
            text(Some("json")),
            "{\"ID\":\"0123456789ab\",\"Name\":\"web\"}\n{\"ID\":\"x\",\"Name\":\"größer\"}\n"
        );
        assert_eq!(text(Some("{{.Name}}:\\t{{.Label \"a.b\"}}")), "web:\tc\ngrößer:\t\n");
        assert_eq!(
            text(Some("table {{.Name}}\\t{{.Label \"a.b\"}}")),
            "NAME      B\nweb       c\ngrößer    \n"
        );
        // Not a table, but a word that begins so.
        assert_eq!(text(Some("tableau")), "tableau\ntableau\n");
    }

    #[test]
    fn a_bad_format_is_said_even_if_there_are_no_rows() {
        for format in ["{{.ID", "table {{.Nope}}", "{{nofunc}}"] {
            let error = LISTING.text(Some(format), &rows()).unwrap_err().to_string();
            assert!(error.contains("at character"), "{format}: {error}");
        }
        LISTING.text(Some("{{.ID"), &[]).unwrap_err();
        assert_eq!(LISTING.text(None, &[]).unwrap(), "ID        NAME\n");
    }
}
