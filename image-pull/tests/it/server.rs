//! A registry that says and does what a test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::content::Content;

/// A request, as far as tests look at it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
    pub(crate) host: String,
    pub(crate) body: String,
    /// How many of this path there were before.
    pub(crate) before: usize,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The connection ends after so many bytes of the body.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: &[u8]) -> Reply {
        Reply { status, headers: Vec::new(), body: body.to_vec(), cut: None }
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Reply {
        let body = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Reply::new(status, body.to_string().as_bytes())
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn cut(self, after: usize) -> Reply {
        Reply { cut: Some(after), ..self }
    }
}

type Script = dyn Fn(&Request) -> Option<Reply> + Send + Sync;

/// The registry; its threads end with the process.
pub(crate) struct Server {
    pub(crate) host: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Serves the content, but what the script answers itself.
    pub(crate) fn start(
        content: Content,
        script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (content, script): (_, Arc<Script>) = (Arc::new(content), Arc::new(script));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (content, script, log) =
                    (Arc::clone(&content), Arc::clone(&script), Arc::clone(&log));
                // A client that is gone is no concern of the server's.
                std::thread::spawn(move || answer(stream, &content, &*script, &log));
            }
        });
        Server { host, seen }
    }

    /// A name in the registry.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// The requests until now whose path has this in it.
    pub(crate) fn seen(&self, part: &str) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.path.contains(part)).cloned().collect()
    }
}

fn answer(
    stream: TcpStream,
    content: &Content,
    script: &Script,
    log: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let (mut authorization, mut range, mut host, mut length) = (None, None, String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match &name.to_ascii_lowercase()[..] {
            "authorization" => authorization = Some(value.to_owned()),
            "host" => host = value.to_owned(),
            "range" => range = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    std::io::Read::read_exact(&mut reader, &mut body)?;
    let body = String::from_utf8(body).unwrap();
    let mut seen = log.lock().unwrap();
    let before = seen.iter().filter(|request| request.path == path).count();
    let request = Request { method, path, authorization, range, host, body, before };
    seen.push(request.clone());
    drop(seen);
    let reply = script(&request).unwrap_or_else(|| content.serve(&request));
    send(stream, &reply)
}

fn send(mut stream: TcpStream, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())])?;
    stream.shutdown(Shutdown::Write)
}

impl Content {
    /// What an honest registry answers.
    pub(crate) fn serve(&self, request: &Request) -> Reply {
        let last = request.path.rsplit('/').next().unwrap_or_default();
        if request.path == "/v2/" {
            return Reply::new(200, b"{}");
        }
        if request.path.contains("/manifests/") {
            return match self.manifests.get(last) {
                Some((kind, bytes)) => Reply::new(200, bytes).header("Content-Type", kind),
                None => Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            };
        }
        let Some(bytes) = self.blobs.get(last) else {
            return Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
        };
        match request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")) {
            None => Reply::new(200, bytes),
            Some(range) => {
                let start: usize = range.trim_end_matches('-').parse().unwrap();
                let told = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                Reply::new(206, &bytes[start..]).header("Content-Range", &told)
            }
        }
    }
}
