//! A template's text as a tree.

use serde_json::Value;

use super::TemplateError;

/// How deep blocks and parentheses may lie in each other: the stack has an end.
const DEPTH_MAX: usize = 64;

/// A part of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    /// Its value is printed.
    Print(Pipeline),
    /// `$x := …` and `$x = …`
    Assign {
        name: String,
        new: bool,
        value: Pipeline,
    },
    /// `if`, `with` and `range`.
    Block(Box<Block>),
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// `$v := `, `$k, $v := ` in front of the value.
    pub(super) names: Vec<String>,
    pub(super) value: Pipeline,
    pub(super) then: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    If,
    With,
    Range,
}

/// Commands, each with the value of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipeline(pub(super) Vec<Command>);

/// A value, or a function or field and its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) head: Operand,
    pub(super) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    pub(super) base: Base,
    /// `.A.B` behind it.
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Paren(Pipeline),
}

/// Reads a template.
///
/// # Errors
/// It is none.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { text, at: 0, trim: false, depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::End(at) => Err(TemplateError::new(text, at, "there is no block for this {{end}}")),
        Stop::Else(at) => Err(TemplateError::new(text, at, "there is no {{if}} for this {{else}}")),
    }
}

/// What ends a run of nodes.
enum Stop {
    Text,
    End(usize),
    Else(usize),
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// The action before ended with `-}}`.
    trim: bool,
    depth: usize,
}

impl Parser<'_> {
    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::new(self.text, at, message))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, TemplateError>,
    ) -> Result<T, TemplateError> {
        if self.depth == DEPTH_MAX {
            return self.error(self.at, "it is nested too deeply");
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let open = self.rest().find("{{");
            let mut text = &self.text[self.at..open.map_or(self.text.len(), |open| self.at + open)];
            self.at += text.len();
            if std::mem::take(&mut self.trim) {
                text = text.trim_start();
            }
            if open.is_some() {
                self.at += 2;
                let spaced = |rest: &str| rest.starts_with(|c: char| c.is_ascii_whitespace());
                if self.rest().strip_prefix('-').is_some_and(spaced) {
                    self.at += 1;
                    text = text.trim_end();
                }
            }
            if !text.is_empty() {
                nodes.push(Node::Text(text.to_owned()));
            }
            if open.is_none() {
                return Ok((nodes, Stop::Text));
            }
            if let Some(end) = self.action(&mut nodes)? {
                return Ok((nodes, end));
            }
        }
    }

    /// What stands behind `{{`.
    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<Option<Stop>, TemplateError> {
        self.skip_space();
        let at = self.at;
        if self.rest().starts_with("/*") {
            let Some(end) = self.rest().find("*/") else {
                return self.error(at, "the comment has no end; write */}}");
            };
            self.at += end + 2;
            self.close()?;
            return Ok(None);
        }
        let word = self.peek_word();
        let kind = match word {
            "if" => Kind::If,
            "with" => Kind::With,
            "range" => Kind::Range,
            "end" => {
                self.at += 3;
                self.close()?;
                return Ok(Some(Stop::End(at)));
            }
            "else" => {
                self.at += 4;
                self.skip_space();
                return Ok(Some(Stop::Else(at)));
            }
            "break" | "continue" | "define" | "template" | "block" => {
                let message = format!("{{{{{word}}}}} is not known here; use if, with and range");
                return self.error(at, message);
            }
            _ => {
                nodes.push(self.statement()?);
                self.close()?;
                return Ok(None);
            }
        };
        self.at += word.len();
        let block = self.deeper(|parser| parser.block(kind, at))?;
        nodes.push(Node::Block(Box::new(block)));
        Ok(None)
    }

    /// What follows `if`, `with` and `range`, to its `{{end}}`.
    fn block(&mut self, kind: Kind, at: usize) -> Result<Block, TemplateError> {
        let names = self.declared()?.map_or_else(Vec::new, |(names, _)| names);
        if names.len() > if kind == Kind::Range { 2 } else { 1 } {
            return self.error(at, "there are too many variables");
        }
        let value = self.pipeline()?;
        self.close()?;
        let (then, end) = self.nodes()?;
        let otherwise = match end {
            Stop::End(_) => Vec::new(),
            Stop::Text => return self.error(at, "it has no {{end}}"),
            // `{{else if …}}` shares the outer one's end.
            Stop::Else(at) if matches!(self.peek_word(), "if" | "with") => {
                let kind = if self.peek_word() == "if" { Kind::If } else { Kind::With };
                self.at += self.peek_word().len();
                let block = self.deeper(|parser| parser.block(kind, at))?;
                vec![Node::Block(Box::new(block))]
            }
            Stop::Else(_) => {
                self.close()?;
                let (otherwise, end) = self.nodes()?;
                match end {
                    Stop::End(_) => otherwise,
                    Stop::Text => return self.error(at, "it has no {{end}}"),
                    Stop::Else(at) => return self.error(at, "there is an {{else}} already"),
                }
            }
        };
        Ok(Block { kind, names, value, then, otherwise })
    }

    fn statement(&mut self) -> Result<Node, TemplateError> {
        let at = self.at;
        Ok(match self.declared()? {
            None => Node::Print(self.pipeline()?),
            Some((mut names, new)) => {
                let Some(name) = names.pop().filter(|_| names.is_empty()) else {
                    return self.error(at, "two variables are for {{range}} only");
                };
                Node::Assign { name, new, value: self.pipeline()? }
            }
        })
    }

    /// `$a :=`, `$a, $b :=`, `$a =`: the names, and whether they are new.
    fn declared(&mut self) -> Result<Option<(Vec<String>, bool)>, TemplateError> {
        let begin = self.at;
        let mut names = Vec::new();
        loop {
            self.skip_space();
            if !self.rest().starts_with('$') {
                break;
            }
            self.at += 1;
            let name = self.peek_word().to_owned();
            self.at += name.len();
            names.push(name);
            self.skip_space();
            for (sign, new) in [(":=", true), ("=", false)] {
                if self.rest().starts_with(sign) && names.iter().all(|name| !name.is_empty()) {
                    self.at += sign.len();
                    return Ok(Some((names, new)));
                }
            }
            if names.len() == 2 || !self.rest().starts_with(',') {
                break;
            }
            self.at += 1;
        }
        self.at = begin;
        Ok(None)
    }

    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let mut commands = vec![self.command()?];
        loop {
            self.skip_space();
            if !self.rest().starts_with('|') {
                return Ok(Pipeline(commands));
            }
            self.at += 1;
            let at = self.at;
            let command = self.command()?;
            if matches!(command.head.base, Base::Literal(_) | Base::Dot | Base::Variable(_))
                && command.head.fields.is_empty()
            {
                return self.error(at, "what stands behind a | has to be a function");
            }
            commands.push(command);
        }
    }

    fn command(&mut self) -> Result<Command, TemplateError> {
        let Some(head) = self.operand()? else {
            return self.error(self.at, "a value is missing; write {{.NAME}}");
        };
        let mut arguments = Vec::new();
        while let Some(operand) = self.operand()? {
            arguments.push(operand);
        }
        if let (Some(argument), Base::Literal(_) | Base::Paren(_)) = (arguments.first(), &head.base)
        {
            return self.error(argument.at, "this cannot stand behind a value that is no function");
        }
        Ok(Command { head, arguments })
    }

    /// The next one, unless the command ends here.
    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        self.skip_space();
        let at = self.at;
        let Some(first) = self.rest().chars().next() else {
            return self.error(at, "the action has no end; write }}");
        };
        let base = match first {
            '|' | ')' | '}' => return Ok(None),
            '-' if self.rest().starts_with("-}}") => return Ok(None),
            '(' => {
                self.at += 1;
                let pipeline = self.deeper(Self::pipeline)?;
                self.skip_space();
                if !self.rest().starts_with(')') {
                    return self.error(at, "the parenthesis is not closed");
                }
                self.at += 1;
                Base::Paren(pipeline)
            }
            '"' | '`' | '\'' => Base::Literal(self.quoted(first)?),
            '0'..='9' | '-' | '+' => Base::Literal(self.number()?),
            '$' => {
                self.at += 1;
                let name = self.peek_word().to_owned();
                self.at += name.len();
                Base::Variable(name)
            }
            '.' => {
                // The dot alone, or the one of its first field.
                if !self.rest()[1..].starts_with(is_word) {
                    self.at += 1;
                }
                Base::Dot
            }
            c if is_word(c) => {
                let word = self.peek_word().to_owned();
                self.at += word.len();
                match &word[..] {
                    "true" => Base::Literal(true.into()),
                    "false" => Base::Literal(false.into()),
                    "nil" => Base::Literal(Value::Null),
                    _ => Base::Function(word),
                }
            }
            c => return self.error(at, format!("{c:?} does not belong here")),
        };
        let mut fields = Vec::new();
        while self.rest().starts_with('.') && !matches!(base, Base::Literal(_)) {
            self.at += 1;
            let field = self.peek_word().to_owned();
            if field.is_empty() {
                return self.error(self.at, "the name of a field is missing behind the dot");
            }
            self.at += field.len();
            fields.push(field);
        }
        Ok(Some(Operand { at, base, fields }))
    }

    /// A string in `"…"` with escapes as in Go, or in backquotes without; a character in `'…'` is
    /// its number.
    fn quoted(&mut self, quote: char) -> Result<Value, TemplateError> {
        let begin = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let at = self.at;
            let Some(c) = self.rest().chars().next() else {
                return self.error(begin, "the quoted text has no end");
            };
            self.at += c.len_utf8();
            match c {
                c if c == quote => break,
                '\n' if quote != '`' => return self.error(begin, "the quoted text has no end"),
                '\\' if quote != '`' => match self.escape() {
                    Some(c) => text.push(c),
                    None => return self.error(at, "this is no escape; write \\\\ for a backslash"),
                },
                c => text.push(c),
            }
        }
        if quote != '\'' {
            return Ok(text.into());
        }
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(u32::from(c).into()),
            _ => self.error(begin, "'…' is for one character; write \"…\" for text"),
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        let digits = match c {
            'n' => return Some('\n'),
            't' => return Some('\t'),
            'r' => return Some('\r'),
            '\\' | '"' | '\'' => return Some(c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let number = u32::from_str_radix(self.rest().get(..digits)?, 16).ok()?;
        self.at += digits;
        char::from_u32(number)
    }

    fn number(&mut self) -> Result<Value, TemplateError> {
        let at = self.at;
        let fine = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        let length = self.rest().find(|c| !fine(c)).unwrap_or(self.rest().len());
        // The dash of `-}}` is the end's.
        let text = match self.rest()[length..].starts_with("}}") {
            true => self.rest()[..length].trim_end_matches('-'),
            false => &self.rest()[..length],
        };
        let integer = text.parse::<i64>().ok().map(Value::from);
        let number = integer.or_else(|| {
            let float = text.parse::<f64>().ok()?;
            serde_json::Number::from_f64(float).map(Value::Number)
        });
        let length = text.len();
        match number {
            Some(number) => {
                self.at += length;
                Ok(number)
            }
            None => self.error(at, "this is no number"),
        }
    }

    /// `}}` or ` -}}`.
    fn close(&mut self) -> Result<(), TemplateError> {
        let spaced = self.text[..self.at].ends_with(|c: char| c.is_ascii_whitespace());
        let before = self.at;
        self.skip_space();
        let spaced = spaced || before < self.at;
        if spaced && self.rest().starts_with("-}}") {
            self.trim = true;
            self.at += 3;
            return Ok(());
        }
        if self.rest().starts_with("}}") {
            self.at += 2;
            return Ok(());
        }
        match self.rest().chars().next() {
            None => self.error(self.at, "the action has no end; write }}"),
            Some(c) => self.error(self.at, format!("{c:?} does not belong here; write }}}}")),
        }
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_ascii_start().len();
    }

    /// The letters, digits and underscores that come next.
    fn peek_word(&self) -> &str {
        let rest = self.rest();
        &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())]
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
