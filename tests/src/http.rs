//! One question over HTTP, without a program in between. Version 1.0, so that the answer is not cut into chunks.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

/// Status and body of `GET path` on a port of 127.0.0.1.
#[track_caller]
pub fn http_get(port: u16, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("an HTTP port");
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: hawser\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).expect("the question is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
