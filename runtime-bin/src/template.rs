//! Go's templates, as far as users of `docker --format` write them.
//!
//! `{{.Field}}` `{{.A.B}}` `{{index .X "key"}}` `{{json .}}`, `range`, `if`, `with` and `else`, variables, pipes,
//! `{{-` and `-}}`, comments, and the functions that [`functions`] lists. The data is JSON, which knows
//! neither Go's types nor its nil: `null` is printed as `<no value>`, a map as `map[k:v]`, a list as `[a b]`.

mod functions;
mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use parse::{Base, Block, Command, Kind, Node, Operand, Pipeline};

/// A template that cannot be read, or does not fit the data.
#[derive(Debug, PartialEq)]
pub(crate) struct TemplateError {
    /// Which character it is about, from 1.
    position: usize,
    message: String,
    /// Whether the data has no such field: no error where a condition asks for it.
    missing: bool,
}

impl TemplateError {
    fn new(text: &str, at: usize, message: impl Into<String>) -> TemplateError {
        let position = text.char_indices().take_while(|(index, _)| *index < at).count() + 1;
        TemplateError { position, message: message.into(), missing: false }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TemplateError { position, message, .. } = self;
        write!(f, "template parsing error: template: at character {position}: {message}")
    }
}

impl std::error::Error for TemplateError {}

/// A template that was read.
#[derive(Debug)]
pub(crate) struct Template<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

/// What a template is filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data<'a> {
    /// `.`
    pub(crate) value: &'a Value,
    /// What `{{.Label "key"}}` looks into.
    pub(crate) labels: Option<&'a Map<String, Value>>,
    /// For the heading of a table, in which functions change nothing.
    pub(crate) heading: bool,
}

/// `text` with what `value` has.
///
/// # Errors
/// The text is no template, or the data has no such field.
pub(crate) fn render(text: &str, value: &Value) -> Result<String, TemplateError> {
    Template::parse(text)?.render(Data { value, labels: None, heading: false })
}

impl<'a> Template<'a> {
    /// Reads a template.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn parse(text: &'a str) -> Result<Template<'a>, TemplateError> {
        Ok(Template { text, nodes: parse::parse(text)? })
    }

    /// The text with what `data` has.
    ///
    /// # Errors
    /// The data has no such field, or a function does not take it.
    pub(crate) fn render(&self, data: Data<'_>) -> Result<String, TemplateError> {
        let variables = vec![(String::new(), Cow::Borrowed(data.value))];
        let mut run = Run { text: self.text, data, variables, out: String::new() };
        run.nodes(&self.nodes, data.value)?;
        Ok(run.out)
    }
}

/// A template being filled in.
struct Run<'a> {
    text: &'a str,
    data: Data<'a>,
    /// The innermost last; `$` is the first.
    variables: Vec<(String, Cow<'a, Value>)>,
    out: String,
}

impl Run<'_> {
    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::new(self.text, at, message))
    }

    /// What is declared in these nodes ends with them.
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Print(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    self.out.push_str(&functions::text(&value));
                }
                Node::Assign { name, new: true, value } => {
                    let value = self.pipeline(value, dot)?;
                    self.variables.push((name.clone(), Cow::Owned(value)));
                }
                Node::Assign { name, value: pipeline, .. } => {
                    let value = self.pipeline(pipeline, dot)?;
                    match self.variables.iter_mut().rev().find(|(other, _)| other == name) {
                        Some((_, place)) => *place = Cow::Owned(value),
                        None => {
                            let at = pipeline.0.first().map_or(0, |command| command.head.at);
                            return self.error(at, format!("undefined variable \"${name}\""));
                        }
                    }
                }
                Node::Block(block) => self.block(block, dot)?,
            }
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn block(&mut self, block: &Block, dot: &Value) -> Result<(), TemplateError> {
        let value = match self.pipeline(&block.value, dot) {
            Err(error) if error.missing && block.kind != Kind::Range => Value::Null,
            result => result?,
        };
        let outer = self.variables.len();
        if !functions::truth(&value) {
            self.nodes(&block.otherwise, dot)?;
        } else if block.kind == Kind::Range {
            self.range(block, value)?;
        } else {
            let named = |name: &String| (name.clone(), Cow::Owned(value.clone()));
            self.variables.extend(block.names.iter().map(named));
            let dot = if block.kind == Kind::With { &value } else { dot };
            self.nodes(&block.then, dot)?;
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn range(&mut self, block: &Block, value: Value) -> Result<(), TemplateError> {
        let items: Vec<(Value, Value)> = match value {
            Value::Array(items) => {
                items.into_iter().enumerate().map(|(index, item)| (index.into(), item)).collect()
            }
            Value::Object(map) => {
                let mut items: Vec<_> = map.into_iter().collect();
                items.sort_by(|(a, _), (b, _)| a.cmp(b));
                items.into_iter().map(|(key, item)| (key.into(), item)).collect()
            }
            _ => {
                let at = block.value.0.first().map_or(0, |command| command.head.at);
                return self.error(at, "range needs a list or a map");
            }
        };
        for (key, item) in items {
            let outer = self.variables.len();
            let values =
                if block.names.len() == 2 { vec![key, item.clone()] } else { vec![item.clone()] };
            let values = values.into_iter().map(Cow::Owned);
            self.variables.extend(block.names.iter().cloned().zip(values));
            self.nodes(&block.then, &item)?;
            self.variables.truncate(outer);
        }
        Ok(())
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipeline.0 {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(
        &mut self,
        command: &Command,
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let Command { head, arguments } = command;
        let Base::Function(name) = &head.base else {
            let method = head.fields.last().is_some_and(|name| name == "Label");
            if method
                && let (Base::Dot | Base::Variable(_), Some(labels)) =
                    (&head.base, self.data.labels)
            {
                return self.label(labels, arguments, dot, last);
            }
            return match (arguments.first(), last) {
                (None, None) => self.operand(head, dot),
                (Some(argument), _) => self.error(argument.at, "a field takes no arguments"),
                (None, Some(_)) => {
                    self.error(head.at, "what stands behind a | has to be a function")
                }
            };
        };
        // These look no further than they have to.
        if let ("and" | "or", false) = (&name[..], arguments.is_empty()) {
            let mut value = Value::Null;
            for argument in arguments {
                value = self.condition(argument, dot)?;
                if functions::truth(&value) == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(last.unwrap_or(value));
        }
        let mut values = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            values.push(match &name[..] {
                "not" => self.condition(argument, dot)?,
                _ => self.operand(argument, dot)?,
            });
        }
        values.extend(last);
        let value = functions::call(name, &values, self.data.heading)
            .or_else(|message| self.error(head.at, message))?;
        self.field(&value, head).cloned()
    }

    /// `.Label "key"`
    fn label(
        &mut self,
        labels: &Map<String, Value>,
        arguments: &[Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut keys = Vec::new();
        for argument in arguments {
            keys.push(self.operand(argument, dot)?);
        }
        keys.extend(last);
        let [Value::String(key)] = &keys[..] else {
            let at = arguments.first().map_or(0, |argument| argument.at);
            return self.error(at, "Label takes the name of one label: {{.Label \"name\"}}");
        };
        match self.data.heading {
            // As Docker: the name without what is in front of it.
            true => Ok(key.rsplit('.').next().unwrap_or(key).replace(['-', '_'], " ").into()),
            false => Ok(labels.get(key).cloned().unwrap_or_else(|| "".into())),
        }
    }

    /// A value that is only asked whether it is there.
    fn condition(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        match self.operand(operand, dot) {
            Err(error) if error.missing => Ok(Value::Null),
            result => result,
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let value = match &operand.base {
            // Of what is there already the field alone is copied.
            Base::Dot => return self.field(dot, operand).cloned(),
            Base::Literal(value) => return self.field(value, operand).cloned(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                return match found {
                    Some((_, value)) => self.field(value, operand).cloned(),
                    None => self.error(operand.at, format!("undefined variable \"${name}\"")),
                };
            }
            Base::Paren(pipeline) => self.pipeline(pipeline, dot)?,
            Base::Function(name) => functions::call(name, &[], self.data.heading)
                .or_else(|message| self.error(operand.at, message))?,
        };
        self.field(&value, operand).cloned()
    }

    /// The field of the field … of a value.
    fn field<'v>(
        &self,
        mut value: &'v Value,
        operand: &Operand,
    ) -> Result<&'v Value, TemplateError> {
        for field in &operand.fields {
            let fail = |message: String| {
                let error = TemplateError::new(self.text, operand.at, message);
                Err(TemplateError { missing: true, ..error })
            };
            value = match value {
                Value::Object(map) => match map.get(field) {
                    Some(value) => value,
                    // Go's fields begin with a capital; what does not is the key of a map, which
                    // may be missing.
                    None if field.starts_with(char::is_lowercase) => &Value::Null,
                    None => return fail(no_field(field, map)),
                },
                Value::Null => return fail(format!("there is no value that .{field} could be of")),
                _ => return fail(format!("can't evaluate field {field}: the value has no fields")),
            };
        }
        Ok(value)
    }
}

/// "did you mean", for the name of a field.
fn no_field(field: &str, map: &Map<String, Value>) -> String {
    let like = |key: &&String| key.eq_ignore_ascii_case(field);
    match map.keys().find(like) {
        Some(key) => format!("there is no field .{field}; do you mean .{key}?"),
        None => {
            let all: Vec<_> = map.keys().take(40).map(|key| format!(".{key}")).collect();
            format!("there is no field .{field}; there are {}", all.join(" "))
        }
    }
}
