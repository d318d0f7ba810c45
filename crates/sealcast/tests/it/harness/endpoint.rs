//! An endpoint before an anvil: gives its answers as they are, shows an old state, or shows entries that nobody has signed.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::{Anvil, output};

/// What an endpoint makes of the answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    True,
    /// As if this block were the newest.
    Stale(u64),
    /// With another byte in each entry.
    False,
}

/// See the module. It ends with the test's process.
pub struct Endpoint {
    address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
}

impl Endpoint {
    pub fn before(anvil: &Anvil) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Self { address: listener.local_addr().unwrap(), answers: Arc::new(Mutex::new(Answers::True)) };
        let (answers, anvil) = (endpoint.answers.clone(), anvil.url());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (answers, anvil) = (answers.clone(), anvil.clone());
                std::thread::spawn(move || serve(client, &answers, &anvil));
            }
        });
        endpoint
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }
}

/// Until the client hangs up.
fn serve(client: TcpStream, answers: &Mutex<Answers>, anvil: &str) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut writer = client;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let mut request: Value = serde_json::from_slice(&body).ok()?;
        let now = *answers.lock().unwrap();
        if let Answers::Stale(block) = now {
            hold_back(&mut request, block);
        }
        let args = ["-s", "-H", "content-type: application/json", "-d", &request.to_string(), anvil];
        let mut answer: Value = serde_json::from_slice(&output(Command::new("curl").args(args)).stdout).ok()?;
        match (now, request["method"].as_str()) {
            (Answers::False, Some("eth_getLogs")) => spoil(&mut answer),
            (Answers::Stale(block), Some("eth_blockNumber")) => answer["result"] = json!(format!("{block:#x}")),
            _ => {}
        }
        let answer = answer.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        write!(writer, "{head}: {}\r\n\r\n{answer}", answer.len()).ok()?;
    }
}

/// Asks for no block after this one.
fn hold_back(request: &mut Value, block: u64) {
    let block = json!(format!("{block:#x}"));
    match request["method"].as_str() {
        Some("eth_getBlockByNumber") => request["params"][0] = block,
        Some("eth_call") => request["params"][1] = block,
        Some("eth_getLogs") => request["params"][0]["toBlock"] = block,
        _ => {}
    }
}

/// Changes a digit of each entry's signature.
fn spoil(answer: &mut Value) {
    for log in answer["result"].as_array_mut().into_iter().flatten() {
        let data = log["data"].as_str().unwrap();
        let at = data.len() - 10;
        let digit = if data.as_bytes()[at] == b'0' { "1" } else { "0" };
        log["data"] = json!(format!("{}{digit}{}", &data[..at], &data[at + 1..]));
    }
}
