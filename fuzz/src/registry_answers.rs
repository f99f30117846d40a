//! `image-pull`: what a registry, its token server, and a server that it redirects to answer; and a file of credentials.
//!
//! The input's first byte says who pulls, the rest is up to ten parts: a file of credentials where that is who pulls, then
//! answers, each a status, header lines, an empty line and a body. A request for a digest gets the answer whose body has
//! it, any other one the next answer. `$R` and `$O` are the addresses of the registry and of another server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use image_pull::{Credentials, PullOptions, Reference, Retries};
use image_unpack::{Archive, Digest};

use crate::image_documents::{check, limits};
use crate::{memory, parts};

/// What nobody may see but whom it is for.
const SECRET: &str = "canary";

/// Bytes as who pulls, and answers.
///
/// # Panics
/// The crate does; gives an image whose parts are not what they are named by; tells a login to whom it is not for; or says
/// something that a terminal obeys.
pub fn run(bytes: &[u8]) {
    let Some((who, rest)) = bytes.split_first() else { return };
    let mut parts = parts::split(rest, 10);
    let servers = servers();
    // One input at a time is served.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = lock(&TURN);
    let file = match who.to_ascii_lowercase() {
        b'f' => memory::file(&servers.fill(parts.remove(0))),
        _ => memory::file(b"{}"),
    };
    let credentials = match who.to_ascii_lowercase() {
        b'p' => Some(Credentials::Password { user: "user".into(), password: SECRET.into() }),
        b'i' => Some(Credentials::IdentityToken(SECRET.into())),
        b'f' | b'n' => None,
        _ => return,
    };
    let answers = parts::filled(&parts, body);
    let first = answers.first().map(|answer| Digest::of(body(answer)));
    let mut name = format!("{}/team/a", servers.registry);
    match first.filter(|_| who.is_ascii_uppercase()) {
        Some(digest) => name += &format!("@{digest}"),
        None => name += ":1",
    }
    *lock(&servers.state) = State { answers, next: 0, is_named: false };
    let options = PullOptions {
        credentials,
        auth_files: vec![memory::path(&file)],
        certificates: Vec::new(),
        retries: Retries { count: 1, first: Duration::ZERO, longest: Duration::ZERO },
        ..PullOptions::default()
    };
    let reference: Reference = name.parse().expect("a name");
    match image_pull::open(&reference, &options) {
        Ok(blobs) => {
            if let Some(digest) = reference.digest() {
                assert_eq!(blobs.root().digest, digest);
            }
            check(&Archive::from_blobs(blobs, limits()));
        }
        Err(error) => {
            let words = error.to_string();
            assert!(!words.is_empty() && !words.contains(char::is_control), "{words:?}");
        }
    }
    if let Some(told) = lock(&servers.told).take() {
        panic!("the other server was told {told:?}");
    }
}

/// What follows the empty line.
fn body(answer: &[u8]) -> &[u8] {
    parts::find(answer, b"\n\n").map_or(b"", |at| &answer[at + 2..])
}

/// Who answers; for as long as the process lives.
struct Servers {
    registry: String,
    other: String,
    state: Mutex<State>,
    /// A login that the other server was given, and not meant to.
    told: Mutex<Option<String>>,
}

#[derive(Default)]
struct State {
    answers: Vec<Vec<u8>>,
    next: usize,
    /// The registry itself has named the other one as who gives tokens.
    is_named: bool,
}

/// A request, as far as it is looked at.
struct Request {
    path: String,
    authorization: Option<String>,
    body: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn servers() -> Arc<Servers> {
    static SERVERS: OnceLock<Arc<Servers>> = OnceLock::new();
    let start = || {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port");
        let address =
            |listener: &TcpListener| listener.local_addr().expect("an address").to_string();
        let (registry, other) = (listen(), listen());
        let servers = Arc::new(Servers {
            registry: address(&registry),
            other: address(&other),
            state: Mutex::default(),
            told: Mutex::default(),
        });
        for (listener, is_registry) in [(registry, true), (other, false)] {
            let servers = Arc::clone(&servers);
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that is gone is no concern of a server's.
                    let _ = servers.serve(stream, is_registry);
                }
            });
        }
        servers
    };
    Arc::clone(SERVERS.get_or_init(start))
}

impl Servers {
    /// The addresses, where they are meant.
    fn fill(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some((byte, after)) = rest.split_first() {
            let address = match rest {
                [b'$', b'R', ..] => &self.registry,
                [b'$', b'O', ..] => &self.other,
                _ => {
                    out.push(*byte);
                    rest = after;
                    continue;
                }
            };
            out.extend(address.bytes());
            rest = &rest[2..];
        }
        out
    }

    fn serve(&self, mut stream: TcpStream, is_registry: bool) -> std::io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let request = read(&stream)?;
        // Whether it has TLS.
        if request.path == "/v2/" {
            return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
        let mut state = lock(&self.state);
        if !is_registry {
            self.look(&request, state.is_named);
        }
        let answer = state.answer(&request.path);
        let (head, body) = answer.split_at(answer.len() - body(&answer).len());
        let head = String::from_utf8_lossy(&self.fill(head)).trim_end().to_owned();
        let lower = head.to_ascii_lowercase();
        let names = |line: &str| line.starts_with("www-authenticate") && line.contains(&self.other);
        state.is_named |= is_registry && lower.lines().any(names);
        drop(state);
        let mut text = format!("HTTP/1.1 {}\r\n", head.replace('\n', "\r\n"));
        text += "connection: close\r\n";
        if !lower.contains("content-length") && !lower.contains("transfer-encoding") {
            text += &format!("content-length: {}\r\n", body.len());
        }
        text += "\r\n";
        stream.write_all(&[text.as_bytes(), body].concat())
    }

    /// Nobody but the registry is given a password or a token, unless it has sent there for one.
    fn look(&self, request: &Request, is_named: bool) {
        let login = request.authorization.as_deref().unwrap_or_default();
        let may = is_named && !login.starts_with("Bearer");
        if !may && (!login.is_empty() || request.body.contains(SECRET)) {
            *lock(&self.told) = Some(format!("{login} {}", request.body));
        }
    }
}

impl State {
    fn answer(&mut self, path: &str) -> Vec<u8> {
        let last = path.rsplit('/').next().unwrap_or_default();
        if let Ok(digest) = last.parse::<Digest>() {
            let found = self.answers.iter().find(|answer| Digest::of(body(answer)) == digest);
            return found.map_or_else(|| b"404 none\n\n".to_vec(), Clone::clone);
        }
        self.next += 1;
        self.answers.get(self.next - 1).map_or_else(|| b"404 none\n\n".to_vec(), Clone::clone)
    }
}

fn read(stream: &TcpStream) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default().to_owned();
    let (mut authorization, mut length) = (None, 0);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match &name.to_ascii_lowercase()[..] {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    Ok(Request { path, authorization, body })
}
